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
from isograft.study.arms import Step, arms_of
from isograft.study.cleaning import Cleaned, Mask, cleaned, overlap
from isograft.study.data import IMAGE_SPLIT, LEAKY_POOL, StudyData, content, joined, names_splits, open_study_data, stacked
from isograft.study.defaults import image_size_of, precision_of
from isograft.study.jobs import Job
from isograft.study.spec import Protocol, StudySpec
from isograft.study.starts import Starts, said

ALL = 0
"""The label budget `all` in results and file names."""


@dataclass(frozen=True)
class JobPlan:
    """All jobs of a study.

    Attributes:
        jobs: Parents before children, each once.
        classes: Class names by task.
        removed: How many images were removed before a training, and of how many, by the name of the training.
        precision: Arithmetic by backbone.
        fixed_splits: Tasks whose data name their own splits.
        manifests: The images of the jobs, by file name in the study's folder.
    """

    jobs: list[Job]
    classes: dict[str, list[str]]
    removed: dict[str, dict[str, int]]
    precision: dict[str, str]
    fixed_splits: list[str]
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
    fixed = [task for task, manifest in data.tasks.items() if names_splits(manifest)]
    return JobPlan(list(planner.jobs.values()), classes, planner.removed, chosen, fixed, planner.manifests)


@dataclass(frozen=True)
class _Images:
    """The images of a job, under a name that follows from their content."""

    manifest: Manifest
    content: str

    @property
    def file(self) -> str:
        """Their manifest, as seen from the study's folder."""
        return f"data/{self.content[:20]}.parquet"


@dataclass(frozen=True)
class _Scope:
    """What runs share that are compared with each other.

    Attributes:
        backbone: The backbone.
        protocol: The protocol.
        task: The task.
        images: Its images as the protocol splits them.
        groups: Its images as they are.
    """

    backbone: str
    protocol: Protocol
    task: str
    images: _Images
    groups: _Images


@dataclass(frozen=True)
class _Start:
    """What the runs of an arm start from: the first word of its chain and, where trainings follow in it, the key of the last."""

    arm: str
    init: str
    parent: str | None

    @property
    def parents(self) -> tuple[str, ...]:
        """The jobs that come before."""
        return (self.parent,) if self.parent else ()


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
    _starts: Starts = field(default_factory=Starts)

    def plan(self, backbone: str, protocol: Protocol, task: str) -> None:
        """Plan all arms, budgets and repeats of one comparison."""
        if protocol in IMAGE_SPLIT and names_splits(self.data.tasks[task]):
            raise IsograftError(
                f"task {task}: its data name their own splits, so the protocol {protocol} cannot split image by image; leave it out"
            )
        scope = _Scope(backbone, protocol, task, self._keep(self.data.task(task, protocol)), self._keep(self.data.tasks[task]))
        arms = arms_of(self.spec, task, backbone)
        probes: dict[_Start, list[tuple[int, int]]] = {}
        for repeat in range(self.spec.repeats):
            tested, sizes = self._split(scope.images.manifest, task, repeat)
            for arm, steps in arms.items():
                if protocol not in LEAKY_POOL:
                    self._starts.refuse_seen(steps[0].name, tested, task)
                start = _Start(arm, steps[0].name, self._chain(scope, steps, tested, repeat))
                if self.spec.finetune.strategy == "probe":
                    probes.setdefault(start, []).extend((budget, repeat) for budget in sizes)
                    continue
                for budget, labels in sizes.items():
                    self._run(scope, start, budget, repeat, labels)
        for start, runs in probes.items():
            self._probes(scope, start, runs)

    def _split(self, manifest: Manifest, task: str, repeat: int) -> tuple[Manifest, dict[int, int]]:
        """The test images of a repeat, and the number of labeled training images by budget."""
        from isograft.plan import Plan
        from isograft.train.partition import partition

        sizes = {}
        test = np.empty(0, np.int64)
        for budget in self.spec.labels_per_class:
            try:
                rows = partition(self._split_settings(manifest, budget, repeat), manifest, Plan())
            except IsograftError as error:
                raise IsograftError(f"task {task}, repeat {repeat}: {error}") from None
            sizes[ALL if budget == "all" else budget] = len(rows.train) + len(rows.val)
            test = rows.test
        return manifest.take(test), sizes

    def _split_settings(self, manifest: Manifest, budget: int | str, repeat: int) -> FinetuneSettings:
        return FinetuneSettings.model_validate(
            {
                "data": "its data",
                "out": Path("unused"),
                "init": "scratch",
                "test_fraction": self._fraction(manifest),
                "labels_per_class": None if budget == "all" else budget,
                "seed": self.spec.seed + repeat,
                "strategy": self.spec.finetune.strategy,
            }
        )

    def _fraction(self, manifest: Manifest) -> float:
        """The share to hold out; where the data name their own test images the option stays at its default, as it has no use."""
        return float(FinetuneSettings.model_fields["test_fraction"].default) if names_splits(manifest) else self.spec.test_fraction

    def _chain(self, scope: _Scope, steps: tuple[Step, ...], tested: Manifest, repeat: int) -> str | None:
        """Plan what precedes the task in an arm; return the key of the last training, or None when there is none."""
        parent = None
        for place, step in enumerate(steps[1:], start=1):
            kept = self._images(scope, step, tested)
            if not len(kept.manifest):
                raise IsograftError(
                    f"all {kept.removed:,} images of {step} are test images of the task {scope.task} in repeat {repeat}, "
                    "or look like one, or share a group with one: nothing is left to train on; give it further images"
                )
            kind = "pretrain" if step.kind == "pool" else "step"
            options = self._step_options() if kind == "step" else self.spec.pretrain.model_dump(mode="json")
            images, name = self._keep(kept.manifest), f"{step} from {' > '.join(said(one) for one in steps[:place])}"
            start = _Start("", steps[0].name, parent)
            payload = {**self._common(scope, start, images, options), "removed": kept.removed, "seed": self.spec.seed}
            parent = self._add(kind, name, start, len(images.manifest) * _passes(options, len(images.manifest)), payload, images)
            told = f"{scope.task}, {scope.protocol}" + f", repeat {repeat}" * kept.own
            self.removed[f"{name} ({told})"] = {"images": len(images.manifest), "removed": kept.removed}
        return parent

    def _step_options(self) -> dict[str, Any]:
        """How another task within a chain is trained on: as a whole, since a probe would leave the network as it was."""
        options = self.spec.finetune.model_dump(mode="json")
        return (
            {**options, "strategy": "probe-then-full", "epochs": self.spec.pretrain.epochs} if options["strategy"] == "probe" else options
        )

    def _images(self, scope: _Scope, step: Step, tested: Manifest) -> Cleaned:
        """What a step of a chain trains on, cleaned of the task's images, or with them where the protocol wants that."""
        source = self.data.pools[step.name] if step.kind == "pool" else self.data.tasks[step.name]
        if scope.protocol in LEAKY_POOL:
            if step.kind == "pool" and self.spec.pretrain.method == "supervised":
                raise IsograftError(
                    f"the protocol {scope.protocol} puts a task's images into {step} without labels, and pretrain.method is supervised; "
                    "choose another method or leave the protocol out"
                )
            return Cleaned(joined(source, scope.groups.manifest) if step.kind == "pool" else source, 0)
        place = (str(step), "" if step.kind == "pool" else scope.task)
        if place not in self._overlaps:
            others = [manifest for name, manifest in self.data.tasks.items() if step.kind == "pool" or name == scope.task]
            self._overlaps[place] = overlap(source, stacked(others))
        return cleaned(source, self._overlaps[place], tested, grouped=scope.protocol not in IMAGE_SPLIT)

    def _run(self, scope: _Scope, start: _Start, budget: int, repeat: int, labels: int) -> None:
        payload = self._tested(scope, start, [(budget, repeat)])
        work = labels * _passes(payload["options"], labels) + len(scope.images.manifest) // 3
        self._add("run", f"{scope.task}: {start.arm}, {budget or 'all'} labels, repeat {repeat}", start, work, payload, scope.images)

    def _probes(self, scope: _Scope, start: _Start, runs: list[tuple[int, int]]) -> None:
        networks = len({repeat for _, repeat in runs}) if start.init == "scratch" and start.parent is None else 1
        work = len(scope.images.manifest) * networks // 3
        self._add("probes", f"{scope.task}: {start.arm}, {len(runs)} probes", start, work, self._tested(scope, start, runs), scope.images)

    def _tested(self, scope: _Scope, start: _Start, runs: list[tuple[int, int]]) -> dict[str, Any]:
        """What the runs of an arm need."""
        return {
            **self._common(scope, start, scope.images, self.spec.finetune.model_dump(mode="json")),
            "groups": scope.groups.file,
            "test_fraction": self._fraction(scope.images.manifest),
            "seed": self.spec.seed,
            "runs": [list(run) for run in runs],
            "protocol": scope.protocol,
            "task": scope.task,
            "arm": start.arm,
        }

    def _common(self, scope: _Scope, start: _Start, images: _Images, options: dict[str, Any]) -> dict[str, Any]:
        """What every job needs."""
        return {
            "backbone": scope.backbone,
            "backbone_args": list(self.spec.backbone_args),
            "image_size": self.image_size,
            "precision": self.precision[scope.backbone],
            "init": start.init,
            "parent": start.parent,
            "manifest": images.file,
            "options": options,
            "allow": scope.protocol in LEAKY_POOL,
        }

    def _keep(self, manifest: Manifest) -> _Images:
        """Remember images by their content."""
        images = _Images(manifest, content(manifest))
        self.manifests.setdefault(images.file, manifest)
        return images

    def _add(self, kind: str, name: str, start: _Start, work: int, payload: dict[str, Any], images: _Images) -> str:
        told = {**payload, "parent": None, "init": self._starts.identity(start.init), "manifest": images.content, "parents": start.parents}
        key = hashlib.sha256(json.dumps([kind, told], sort_keys=True).encode()).hexdigest()[:20]
        self.jobs.setdefault(key, Job(key, kind, name, start.parents, work, payload))
        return key


def _passes(options: Mapping[str, Any], images: int) -> int:
    """How often a training shows each of its images, for the estimate of the time."""
    from isograft.train.finetune_plan import usual_epochs

    return usual_epochs(options["strategy"], images) if options["epochs"] == "auto" else int(options["epochs"])
