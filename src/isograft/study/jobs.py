"""The jobs of a study: which trainings and probes it takes, what each starts from, and a key by which a finished one is known again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from isograft.data.manifest import Manifest
from isograft.errors import IsograftError
from isograft.settings import FinetuneSettings
from isograft.study.arms import STARTS, Step, arms_of
from isograft.study.cleaning import Cleaned, Mask, cleaned, overlap
from isograft.study.data import IMAGE_SPLIT, LEAKY_POOL, StudyData, content, joined, open_study_data, stacked
from isograft.study.defaults import image_size_of, precision_of
from isograft.study.spec import Protocol, StudySpec

ALL = 0
"""The label budget `all` in results and file names."""
_PASSES = 40
"""Passes that a fine-tuning left to itself makes (`train/finetune_plan.py`), for the estimate."""


@dataclass(frozen=True)
class Job:
    """Something that is done once.

    Attributes:
        key: 20 hexadecimal digits, a function of everything that decides the outcome, and of no path and no time.
        kind: `pretrain`, `step` (another task within a chain), `probes` (all probes of one start on one task) or `run`.
        name: What it is, for people.
        parents: Keys of the jobs it starts from.
        images: Images it will process, for the estimate of the time.
        payload: JSON-ready; all that it needs beside the study's folder.
    """

    key: str
    kind: str
    name: str
    parents: tuple[str, ...]
    images: int
    payload: dict[str, Any]


@dataclass(frozen=True)
class JobPlan:
    """All jobs of a study.

    Attributes:
        jobs: Parents before children, each once.
        classes: Class names by task.
        removed: How many images were removed before a training, and of how many, by the name of the training.
        precision: Arithmetic by backbone.
        manifests: The images of the jobs, by file name in the study's folder.
    """

    jobs: list[Job]
    classes: dict[str, list[str]]
    removed: dict[str, dict[str, int]]
    precision: dict[str, str]
    manifests: dict[str, Manifest]

    def write_manifests(self, folder: Path) -> None:
        """Write the manifests that are not there yet into the study's folder."""
        for name, manifest in self.manifests.items():
            if not (folder / name).exists():
                manifest.write(folder / name)


def plan_jobs(spec: StudySpec, cache_dir: Path, threads: int, precision: Mapping[str, str] | None = None) -> JobPlan:
    """Open the data, take the splits, clean the pools, and list the jobs.

    Args:
        spec: The study.
        cache_dir: Folder of the decoded images and of manifests made on the fly.
        threads: Threads for decoding.
        precision: Arithmetic by backbone where it was decided before; measured otherwise.

    Raises:
        IsograftError: The data cannot be used, or a class has fewer training labels than a budget asks for.
    """
    data = open_study_data(spec, cache_dir, threads)
    size = image_size_of(spec, data)
    chosen = dict(precision) if precision else {name: precision_of(name, spec, size) for name in spec.backbones}
    planner = _Planner(spec, data, size, chosen)
    for backbone in spec.backbones:
        for protocol in spec.protocols:
            for task in spec.tasks:
                planner.plan(backbone, protocol, task)
    classes = {task: manifest.classes() for task, manifest in data.tasks.items()}
    return JobPlan(list(planner.jobs.values()), classes, planner.removed, chosen, planner.manifests)


@dataclass
class _Planner:
    """Collects jobs; what is the same by its key is there once."""

    spec: StudySpec
    data: StudyData
    image_size: int
    precision: Mapping[str, str]
    jobs: dict[str, Job] = field(default_factory=dict)
    removed: dict[str, dict[str, int]] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    _overlaps: dict[tuple[str, str], Mask] = field(default_factory=dict)

    def plan(self, backbone: str, protocol: Protocol, task: str) -> None:
        """Plan all arms, budgets and repeats of one comparison."""
        manifest = self.data.task(task, protocol)
        arms = arms_of(self.spec, task, backbone)
        probes: dict[tuple[str, str], list[tuple[int, int]]] = {}
        starts: dict[tuple[str, str], tuple[tuple[str, ...], str]] = {}
        for repeat in range(self.spec.repeats):
            tested, sizes = self._split(manifest, task, repeat)
            for arm, steps in arms.items():
                parent = self._chain(backbone, protocol, task, steps, tested, repeat)
                start = steps[0].name
                group = (arm, parent or f"{start}")
                starts[group] = ((parent,) if parent else (), start)
                runs = [(budget, repeat) for budget in sizes]
                if self.spec.finetune.strategy == "probe":
                    probes.setdefault(group, []).extend(runs)
                else:
                    for budget, number in runs:
                        self._run(backbone, protocol, task, arm, starts[group], budget, number, sizes[budget])
        for (arm, _), runs in probes.items():
            self._probes(backbone, protocol, task, arm, starts[arm, _], runs)

    def _split(self, manifest: Manifest, task: str, repeat: int) -> tuple[Manifest, dict[int, int]]:
        """The test images of a repeat, and the number of labeled training images by budget."""
        from isograft.plan import Plan
        from isograft.train.partition import partition

        sizes = {}
        test = np.empty(0, np.int64)
        for budget in self.spec.labels_per_class:
            try:
                rows = partition(self._split_settings(task, budget, repeat), manifest, Plan())
            except IsograftError as error:
                raise IsograftError(f"task {task}, repeat {repeat}: {error}") from None
            sizes[ALL if budget == "all" else budget] = len(rows.train) + len(rows.val)
            test = rows.test
        return manifest.take(test), sizes

    def _split_settings(self, task: str, budget: int | str, repeat: int) -> FinetuneSettings:
        return FinetuneSettings.model_validate(
            {
                "data": task,
                "out": Path("unused"),
                "init": "scratch",
                "test_fraction": self.spec.test_fraction,
                "labels_per_class": None if budget == "all" else budget,
                "seed": self.spec.seed + repeat,
                "strategy": self.spec.finetune.strategy,
            }
        )

    def _chain(self, backbone: str, protocol: Protocol, task: str, steps: tuple[Step, ...], tested: Manifest, repeat: int) -> str | None:
        """Plan what precedes the task in an arm; return the key of the last training, or None when there is none."""
        parent, start = None, steps[0].name
        for place, step in enumerate(steps[1:], start=1):
            images = self._images(protocol, task, step, tested)
            if not len(images.manifest):
                raise IsograftError(
                    f"all {images.removed:,} images of {step} are test images of the task {task} in repeat {repeat}, or look like one, "
                    "or share a group with one: nothing is left to train on; give it further images"
                )
            name = f"{step} from {' > '.join(str(one) for one in steps[:place])}"
            common = {**self._common(backbone), "init": start, "parent": parent, "removed": images.removed, "allow": protocol in LEAKY_POOL}
            if step.kind == "pool":
                kind, options = "pretrain", self.spec.pretrain.model_dump(mode="json")
                work = len(images.manifest) * self.spec.pretrain.epochs
            else:
                kind, options = "step", self._step_options()
                work = len(images.manifest) * (_PASSES if options["epochs"] == "auto" else options["epochs"])
            payload = {**common, "manifest": self._keep(images.manifest), "options": options, "seed": self.spec.seed}
            parent = self._add(kind, name, (parent,) if parent else (), work, payload, images.manifest)
            told = f"{task}, {protocol}" + f", repeat {repeat}" * images.own
            self.removed[f"{name} ({told})"] = {"images": len(images.manifest), "removed": images.removed}
        return parent

    def _step_options(self) -> dict[str, Any]:
        """How another task within a chain is trained on: as a whole, since a probe would leave the network as it was."""
        options = self.spec.finetune.model_dump(mode="json")
        return (
            {**options, "strategy": "probe-then-full", "epochs": self.spec.pretrain.epochs} if options["strategy"] == "probe" else options
        )

    def _images(self, protocol: Protocol, task: str, step: Step, tested: Manifest) -> Cleaned:
        """What a step of a chain trains on, cleaned of the task's images, or with them where the protocol wants that."""
        source = self.data.pools[step.name] if step.kind == "pool" else self.data.tasks[step.name]
        if protocol in LEAKY_POOL:
            if step.kind == "pool" and self.spec.pretrain.method == "supervised":
                raise IsograftError(
                    f"the protocol {protocol} puts a task's images into {step} without labels, and pretrain.method is supervised; "
                    "choose another method or leave the protocol out"
                )
            return Cleaned(joined(source, self.data.tasks[task]) if step.kind == "pool" else source, 0)
        place = (str(step), "" if step.kind == "pool" else task)
        if place not in self._overlaps:
            others = [manifest for name, manifest in self.data.tasks.items() if step.kind == "pool" or name == task]
            self._overlaps[place] = overlap(source, stacked(others))
        return cleaned(source, self._overlaps[place], tested, grouped=protocol not in IMAGE_SPLIT)

    def _run(
        self,
        backbone: str,
        protocol: Protocol,
        task: str,
        arm: str,
        start: tuple[tuple[str, ...], str],
        budget: int,
        repeat: int,
        labels: int,
    ) -> None:
        options = self.spec.finetune.model_dump(mode="json")
        passes = _PASSES if options["epochs"] == "auto" else options["epochs"]
        payload = self._tested(backbone, protocol, task, arm, start, [(budget, repeat)])
        name = f"{task}: {arm}, {budget or 'all'} labels, repeat {repeat}"
        manifest = self.data.task(task, protocol)
        self._add("run", name, start[0], labels * passes + len(manifest) // 3, payload, manifest)

    def _probes(
        self, backbone: str, protocol: Protocol, task: str, arm: str, start: tuple[tuple[str, ...], str], runs: list[tuple[int, int]]
    ) -> None:
        payload = self._tested(backbone, protocol, task, arm, start, runs)
        manifest = self.data.task(task, protocol)
        passes = len({repeat for _, repeat in runs}) if start == ((), "scratch") else 1
        self._add("probes", f"{task}: {arm}, {len(runs)} probes", start[0], len(manifest) * passes // 3, payload, manifest)

    def _tested(
        self, backbone: str, protocol: Protocol, task: str, arm: str, start: tuple[tuple[str, ...], str], runs: list[tuple[int, int]]
    ) -> dict[str, Any]:
        parents, init = start
        return {
            **self._common(backbone),
            "init": init,
            "parent": parents[0] if parents else None,
            "manifest": self._keep(self.data.task(task, protocol)),
            "groups": self._keep(self.data.tasks[task]),
            "options": self.spec.finetune.model_dump(mode="json"),
            "test_fraction": self.spec.test_fraction,
            "seed": self.spec.seed,
            "runs": [list(run) for run in runs],
            "protocol": protocol,
            "task": task,
            "arm": arm,
            "allow": protocol in LEAKY_POOL,
        }

    def _common(self, backbone: str) -> dict[str, Any]:
        return {
            "backbone": backbone,
            "backbone_args": list(self.spec.backbone_args),
            "image_size": self.image_size,
            "precision": self.precision[backbone],
        }

    def _keep(self, manifest: Manifest) -> str:
        """Remember a manifest under a name that follows from its content."""
        name = f"data/{content(manifest)[:20]}.parquet"
        self.manifests.setdefault(name, manifest)
        return name

    def _add(self, kind: str, name: str, parents: tuple[str, ...], images: int, payload: dict[str, Any], manifest: Manifest) -> str:
        told = {**payload, "parent": None, "init": _identity(payload["init"]), "manifest": content(manifest), "parents": parents}
        key = hashlib.sha256(json.dumps([kind, told], sort_keys=True).encode()).hexdigest()[:20]
        self.jobs.setdefault(key, Job(key, kind, name, parents, images, payload))
        return key


def _identity(start: str) -> str:
    """What a start is, whatever its place: `scratch`, `imagenet`, or a hash of the weights."""
    path = Path(start)
    if start in STARTS:
        return start
    if path.is_dir():
        from isograft.model import Model

        return Model.load(path).content_hash
    return hashlib.sha256(path.read_bytes()).hexdigest()
