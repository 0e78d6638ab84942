"""What a job does: a training, a fine-tuning with its test, or all probes of one start; its folder is whole or not there."""

from __future__ import annotations

import json
import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from isograft.data.hashing import group_hash
from isograft.data.manifest import Manifest
from isograft.errors import IsograftError, RunInterrupted
from isograft.settings import FinetuneSettings, PretrainSettings
from isograft.study.jobs import Job
from isograft.study.probes import Predicted

MODEL = "model"
PREDICTIONS = "predictions.parquet"
_FIGURES = ("accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "macro_roc_auc", "mcc")
_CHAIN = ("pool_images", "pool_removed", "pretrain_images_seen")


def do(job: Job, out: Path, cache_dir: Path, threads: int) -> None:
    """Do a job, unless it is finished.

    Args:
        job: The job; its parents are finished.
        out: The study's folder; the job's own is `jobs/KEY`.
        cache_dir: Folder of the decoded images.
        threads: Threads for decoding and augmentation.

    Raises:
        IsograftError: It cannot be done; nothing of it is left.
    """
    place = out / "jobs" / job.key
    if (place / "done.json").is_file():
        return
    partial = place.with_name(f"{job.key}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    began, started = time.monotonic(), _now()
    try:
        partial.mkdir(parents=True)
        found = _WORK[job.kind](job, out, partial, cache_dir, threads)
        record = {"key": job.key, "kind": job.kind, "name": job.name, "parents": list(job.parents)}
        times = {"started": started, "finished": _now(), "seconds": round(time.monotonic() - began, 3)}
        (partial / "done.json").write_text(json.dumps({**record, **times, **found}, indent=1), encoding="utf-8")
        _place(partial, place)
    except RunInterrupted:
        raise
    except OSError as error:
        raise IsograftError(f"cannot write {place}: {error.strerror or error}; free some space and continue with --resume") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _pretrain(job: Job, out: Path, partial: Path, cache_dir: Path, threads: int) -> dict[str, Any]:
    from isograft.train.pretrain import pretrain

    asked = {key: value for key, value in job.payload["options"].items() if value != "auto"}
    model = pretrain(PretrainSettings(**_shared(job, out, partial, cache_dir, threads), **asked))
    return _trained(job, out, _seen(model.passport.plan))


def _step(job: Job, out: Path, partial: Path, cache_dir: Path, threads: int) -> dict[str, Any]:
    from isograft.train.finetune import finetune

    asked = {key: value for key, value in job.payload["options"].items() if value != "auto"}
    model = finetune(FinetuneSettings(**_shared(job, out, partial, cache_dir, threads), **asked, test_fraction=0.0))
    return _trained(job, out, _seen(model.passport.plan))


def _run(job: Job, out: Path, partial: Path, cache_dir: Path, threads: int) -> dict[str, Any]:
    """Fine-tune once, and test on the images kept for it; the model itself is not kept."""
    from isograft.study.scoring import predict_held_out
    from isograft.train.finetune import finetune

    ((budget, repeat),) = job.payload["runs"]
    asked = {key: value for key, value in job.payload["options"].items() if value != "auto"}
    shared = {**_shared(job, out, partial, cache_dir, threads), "seed": job.payload["seed"] + repeat}
    split = {"test_fraction": job.payload["test_fraction"], "labels_per_class": budget or None}
    model = finetune(FinetuneSettings(**shared, **asked, **split))
    manifest = Manifest.read(out / job.payload["manifest"])
    predicted = predict_held_out(model, manifest, cache_dir, threads)
    if not job.payload["allow"]:
        _refuse_seen(model.seen(), manifest, predicted, job)
    seen = _seen(model.passport.plan)
    shutil.rmtree(partial / MODEL)
    return {"images_seen": seen, "rows": [_row(job, out, partial, manifest, predicted, budget, repeat, seen)]}


def _probes(job: Job, out: Path, partial: Path, cache_dir: Path, threads: int) -> dict[str, Any]:
    """Solve a head for every budget and repeat on one pass of features; random weights belong to their repeat."""
    from isograft.study.probes import frozen_features, probe
    from isograft.train.start import open_start

    manifest = Manifest.read(out / job.payload["manifest"])
    init = _init(job, out)
    seen = None if init in {"scratch", "imagenet"} else open_start(init, job.payload["backbone"], ()).parent
    weights = {"init": init, "backbone": job.payload["backbone"], "backbone_arg": tuple(job.payload["backbone_args"])}
    rows, features, made_for = [], None, -1
    for budget, repeat in sorted(job.payload["runs"], key=lambda run: (run[1], run[0])):
        seed = job.payload["seed"] + repeat
        if features is None or (init == "scratch" and repeat != made_for):
            size = job.payload["image_size"]
            features = frozen_features(manifest, **weights, image_size=size, seed=seed, cache_dir=cache_dir, threads=threads)
            made_for = repeat
        split = {"test_fraction": job.payload["test_fraction"], "labels_per_class": budget or None, "seed": seed}
        settings = FinetuneSettings(data=job.payload["task"], out=Path("unused"), init="scratch", strategy="probe", **split)
        predicted = probe(features, manifest, settings)
        if seen is not None and not job.payload["allow"]:
            _refuse_seen(seen.seen(), manifest, predicted, job)
        rows.append(_row(job, out, partial, manifest, predicted, budget, repeat, predicted.train_images))
    return {"images_seen": sum(row["finetune_images_seen"] for row in rows), "rows": rows}


_WORK = {"pretrain": _pretrain, "step": _step, "run": _run, "probes": _probes}


def _shared(job: Job, out: Path, partial: Path, cache_dir: Path, threads: int) -> dict[str, Any]:
    """The settings that every training of a study gets alike."""
    payload = job.payload
    idle = {"precision": payload["precision"]} if payload["options"].get("strategy") != "probe" else {}
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
        **idle,
    }


def _init(job: Job, out: Path) -> str:
    parent = job.payload["parent"]
    return str(job.payload["init"]) if parent is None else str(out / "jobs" / parent / MODEL)


def _seen(plan: list[dict[str, Any]]) -> int:
    """Images a training showed the network, repetitions counted, by the passport's plan."""
    values = {entry["name"]: entry["value"] for entry in plan}
    return int(values["total_steps"]) * int(values["batch_size"])


def _chain(job: Job, out: Path) -> dict[str, int]:
    """What the trainings before a job add up to."""
    chains = [json.loads((out / "jobs" / parent / "done.json").read_bytes())["chain"] for parent in job.parents]
    return {name: sum(chain[name] for chain in chains) for name in _CHAIN}


def _trained(job: Job, out: Path, seen: int) -> dict[str, Any]:
    before, images = _chain(job, out), len(Manifest.read(out / job.payload["manifest"]))
    own = {"pool_images": images, "pool_removed": job.payload["removed"], "pretrain_images_seen": seen}
    return {"images_seen": seen, "rows": [], "chain": {name: before[name] + own[name] for name in _CHAIN}}


def _refuse_seen(seen: pl.DataFrame, manifest: Manifest, predicted: Predicted, job: Job) -> None:
    """Fail closed: a test image that the chain has seen would be worth nothing.

    Raises:
        LeakageError: There is one.
    """
    from isograft.lineage import leaks, refuse

    tested = manifest.take(predicted.rows)
    refuse(leaks(seen, tested), len(tested), f"the arm {job.payload['arm']}")


def _row(
    job: Job, out: Path, partial: Path, manifest: Manifest, predicted: Predicted, budget: int, repeat: int, seen: int
) -> dict[str, Any]:
    """Write the answers of a run; return its row of results.parquet."""
    from isograft.assess.metrics import score

    groups = Manifest.read(out / job.payload["groups"]).groups()[predicted.rows]
    answers = {
        "id": manifest.frame["id"].to_numpy()[predicted.rows],
        "group": [group_hash(str(group)) for group in groups],
        "truth": predicted.truth,
        **{f"p{number}": predicted.probabilities[:, number] for number in range(predicted.probabilities.shape[1])},
    }
    folder = partial / f"{budget}-{repeat}"
    folder.mkdir()
    pl.DataFrame(answers).write_parquet(folder / PREDICTIONS)
    figures = score(predicted.truth, predicted.probabilities, manifest.classes(), groups)
    return {
        **{name: job.payload[name] for name in ("backbone", "protocol", "task", "arm")},
        "labels_per_class": budget,
        "repeat": repeat,
        "seed": job.payload["seed"] + repeat,
        "train_images": predicted.train_images,
        "test_images": len(predicted.rows),
        "test_groups": len({*groups}),
        **_chain(job, out),
        "finetune_images_seen": seen,
        **{name: figures[name] for name in _FIGURES},
        "job": f"{job.key}/{folder.name}",
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _place(partial: Path, place: Path) -> None:
    """Give a finished folder its name once every byte of it lies on the disk, so that not even a power cut leaves a half-written one."""
    for path in (*partial.rglob("*"), partial):
        _sync(path)
    if not (place / "done.json").exists():
        shutil.rmtree(place, ignore_errors=True)  # left by something else than a job
    try:
        partial.rename(place)
    except OSError:
        if not (place / "done.json").exists():
            raise
        return  # a worker that was taken for lost has finished the same job first
    _sync(place.parent)


def _sync(path: Path) -> None:
    """Wait until a file or folder lies on the disk; folders cannot be waited for everywhere."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        if path.is_dir():
            return
        raise
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
