"""What a job does: a training, a fine-tuning with its test, or all probes of one start; its folder is whole or not there."""

from __future__ import annotations

import errno
import json
import shutil
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import numpy.typing as npt
import polars as pl

from isograft.data.duplicates import bound_groups
from isograft.data.hashing import group_hash
from isograft.data.manifest import Manifest
from isograft.errors import IsograftError
from isograft.run import can_resume, sync
from isograft.settings import FinetuneSettings, PretrainSettings
from isograft.study.arms import STARTS
from isograft.study.halfway import CLOCK_FILE, begin, remove_unless_saved
from isograft.study.influence import FIGURES
from isograft.study.jobs import Job
from isograft.study.places import DONE_FILE, JOBS_FOLDER, MODEL, PARTIAL, PREDICTIONS_FILE, SCOPE
from isograft.study.probes import Predicted

Trained = TypeVar("Trained", PretrainSettings, FinetuneSettings)
_CHAIN = ("pool_images", "pool_removed", "pretrain_images_seen")


def do(job: Job, out: Path, cache_dir: Path, threads: int) -> None:
    """Do a job, unless it is finished.

    Args:
        job: The job; its parents are finished.
        out: The study's folder; the job's own is `jobs/KEY`.
        cache_dir: Folder of the decoded images.
        threads: Threads for decoding and augmentation.

    Raises:
        IsograftError: It cannot be done; nothing of it is left but the last saved state of a training.
    """
    place = out / JOBS_FOLDER / job.key
    if (place / DONE_FILE).is_file():
        return
    partial = place.with_name(f"{job.key}{PARTIAL}{uuid.uuid4().hex[:12]}")  # process numbers repeat on a cluster
    began, started = time.monotonic(), _now()
    try:
        before = begin(place, partial)
        found = _WORK[job.kind](job, out, partial, cache_dir, threads)
        (partial / CLOCK_FILE).unlink()
        record = {"key": job.key, "kind": job.kind, "name": job.name, "parents": list(job.parents)}
        times = {"started": started, "finished": _now(), "seconds": round(before + time.monotonic() - began, 3)}
        (partial / DONE_FILE).write_text(json.dumps({**record, **times, **found}, indent=1), encoding="utf-8")
        _place(partial, place)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise IsograftError(f"cannot write {place}: {error.strerror}; free some space and continue with --resume") from error
    finally:
        remove_unless_saved(partial)


def _pretrain(job: Job, out: Path, partial: Path, cache_dir: Path, threads: int) -> dict[str, Any]:
    from isograft.train.pretrain import pretrain

    settings = PretrainSettings(**_shared(job, out, partial, cache_dir, threads), **job.payload["options"])
    model = pretrain(_where_it_was(settings))
    return _trained(job, out, _seen(model.passport.plan))


def _step(job: Job, out: Path, partial: Path, cache_dir: Path, threads: int) -> dict[str, Any]:
    from isograft.train.finetune import finetune

    settings = FinetuneSettings(**_shared(job, out, partial, cache_dir, threads), **job.payload["options"], test_fraction=0.0)
    model = finetune(_where_it_was(settings))
    return _trained(job, out, _seen(model.passport.plan))


def _run(job: Job, out: Path, partial: Path, cache_dir: Path, threads: int) -> dict[str, Any]:
    """Fine-tune once, and test on the images kept for it; the model itself is not kept."""
    from isograft.study.scoring import predict_held_out
    from isograft.train.finetune import finetune

    ((budget, repeat),) = job.payload["runs"]
    shared = {**_shared(job, out, partial, cache_dir, threads), "seed": job.payload["seed"] + repeat}
    split = {"test_fraction": job.payload["test_fraction"], "labels_per_class": budget or None}
    model = finetune(_where_it_was(FinetuneSettings(**shared, **job.payload["options"], **split)))
    test = _Test.open(job, out, partial)
    predicted = predict_held_out(model, test.manifest, cache_dir, threads)
    test.refuse_seen(model.seen(), predicted)
    seen = _seen(model.passport.plan)
    shutil.rmtree(partial / MODEL)
    return {"images_seen": seen, "rows": [test.row(predicted, budget, repeat, seen)]}


def _probes(job: Job, out: Path, partial: Path, cache_dir: Path, threads: int) -> dict[str, Any]:
    """Solve a head for every budget and repeat on one pass of features; random weights belong to their repeat."""
    from isograft.study.probes import frozen_features, probe
    from isograft.train.start import open_start

    payload, init, test = job.payload, _init(job, out), _Test.open(job, out, partial)
    parent = None if init in STARTS else open_start(init, payload["backbone"], ()).parent
    seen = None if parent is None else parent.seen()
    weights = {"init": init, "backbone": payload["backbone"], "backbone_arg": tuple(payload["backbone_args"])}
    place = {"image_size": payload["image_size"], "cache_dir": cache_dir, "threads": threads}
    rows, features = [], None
    for repeat, runs in groupby(sorted(payload["runs"], key=lambda run: (run[1], run[0])), key=lambda run: run[1]):
        seed = payload["seed"] + repeat
        if features is None or init == "scratch":
            features = frozen_features(test.manifest, **weights, **place, seed=seed)
        for budget, _ in runs:
            split = {"test_fraction": payload["test_fraction"], "labels_per_class": budget or None, "seed": seed}
            settings = FinetuneSettings(data=payload["task"], out=Path("unused"), init="scratch", strategy="probe", **split)
            predicted = probe(features, test.manifest, settings)
            if seen is not None:
                test.refuse_seen(seen, predicted)
            rows.append(test.row(predicted, budget, repeat, predicted.train_images))
    return {"images_seen": sum(row["finetune_images_seen"] for row in rows), "rows": rows}


_WORK = {"pretrain": _pretrain, "step": _step, "run": _run, "probes": _probes}


def _shared(job: Job, out: Path, partial: Path, cache_dir: Path, threads: int) -> dict[str, Any]:
    """The settings that every training of a study gets alike."""
    payload = job.payload
    return {
        "data": str(out / payload["manifest"]),
        "out": partial / MODEL,
        "init": _init(job, out),
        "backbone": payload["backbone"],
        "backbone_arg": tuple(payload["backbone_args"]),
        "image_size": payload["image_size"],
        "seed": payload["seed"],
        "cache_dir": cache_dir,
        "threads": threads,
        "precision": payload["precision"],
    }


def _where_it_was(settings: Trained) -> Trained:
    """The settings of a training that goes on from its saved state, if it has one; anything else of it is removed."""
    resume = can_resume(settings.out, settings.fixed)
    if not resume:
        shutil.rmtree(settings.out, ignore_errors=True)
    return settings.model_copy(update={"resume": resume})


def _init(job: Job, out: Path) -> str:
    parent = job.payload["parent"]
    return str(job.payload["init"]) if parent is None else str(out / JOBS_FOLDER / parent / MODEL)


def _seen(plan: list[dict[str, Any]]) -> int:
    """Images a training showed the network, repetitions counted, by the passport's plan."""
    values = {entry["name"]: entry["value"] for entry in plan}
    return int(values["total_steps"]) * int(values["batch_size"])


def _chain(job: Job, out: Path) -> dict[str, int]:
    """What the trainings before a job add up to."""
    chains = [json.loads((out / JOBS_FOLDER / parent / DONE_FILE).read_bytes())["chain"] for parent in job.parents]
    return {name: sum(chain[name] for chain in chains) for name in _CHAIN}


def _trained(job: Job, out: Path, seen: int) -> dict[str, Any]:
    before, images = _chain(job, out), len(Manifest.read(out / job.payload["manifest"]))
    own = {"pool_images": images, "pool_removed": job.payload["removed"], "pretrain_images_seen": seen}
    return {"images_seen": seen, "rows": [], "chain": {name: before[name] + own[name] for name in _CHAIN}}


@dataclass(frozen=True)
class _Test:
    """What the runs of a job are tested on.

    Attributes:
        job: The job.
        folder: Where the answers go.
        manifest: The task's images.
        groups: (N,) the group of every image, by the task itself, whatever the split took for one; joined where they share a picture.
        chain: What the trainings before the job add up to.
    """

    job: Job
    folder: Path
    manifest: Manifest
    groups: npt.NDArray[Any]
    chain: dict[str, int]

    @classmethod
    def open(cls, job: Job, out: Path, folder: Path) -> _Test:
        """Read it."""
        manifest, groups = (Manifest.read(out / job.payload[name]) for name in ("manifest", "groups"))
        return cls(job, folder, manifest, bound_groups(groups), _chain(job, out))

    def refuse_seen(self, seen: pl.DataFrame, predicted: Predicted) -> None:
        """Fail closed, but where the protocol leaks on purpose: a test image that the chain has seen would be worth nothing.

        Raises:
            LeakageError: There is one.
        """
        from isograft.lineage import leaks, refuse

        if not self.job.payload["allow"]:
            refuse(leaks(seen, self.manifest.take(predicted.rows)), len(predicted.rows), f"the arm {self.job.payload['arm']}")

    def row(self, predicted: Predicted, budget: int, repeat: int, seen: int) -> dict[str, Any]:
        """Write the answers of a run; return its row of results.parquet."""
        from isograft.assess.metrics import score

        groups = self.groups[predicted.rows]
        answers = {
            "id": self.manifest.frame["id"].to_numpy()[predicted.rows],
            "group": [group_hash(str(group)) for group in groups],
            "truth": predicted.truth,
            **{f"p{number}": predicted.probabilities[:, number] for number in range(predicted.probabilities.shape[1])},
        }
        folder = self.folder / f"{budget}-{repeat}"
        folder.mkdir()
        pl.DataFrame(answers).write_parquet(folder / PREDICTIONS_FILE)
        figures = score(predicted.truth, predicted.probabilities, self.manifest.classes(), groups)
        return {
            **{name: self.job.payload[name] for name in (*SCOPE, "arm")},
            "labels_per_class": budget,
            "repeat": repeat,
            "seed": self.job.payload["seed"] + repeat,
            "train_images": predicted.train_images,
            "test_images": len(predicted.rows),
            "test_groups": len({*groups}),
            **self.chain,
            "finetune_images_seen": seen,
            **{name: figures[name] for name in FIGURES},
            "job": f"{self.job.key}/{folder.name}",
        }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _place(partial: Path, place: Path) -> None:
    """Give a finished folder its name once every byte of it lies on the disk, so that not even a power cut leaves a half-written one."""
    for path in (*partial.rglob("*"), partial):
        sync(path)
    if not (place / DONE_FILE).exists():
        shutil.rmtree(place, ignore_errors=True)  # left by something else than a job
    try:
        partial.rename(place)
    except OSError:
        if not (place / DONE_FILE).exists():
            raise
        return  # a worker that was taken for lost has finished the same job first
    sync(place.parent)
