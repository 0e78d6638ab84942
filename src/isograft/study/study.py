"""`isograft study`: starts, pools and chains compared on tasks, over label budgets and splits."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isograft import console
from isograft.data.decode import core_count
from isograft.data.source import default_cache_dir
from isograft.errors import IsograftError, RunInterrupted
from isograft.run import RunFolder, environment, run_folder, write_atomic
from isograft.settings import StudySettings
from isograft.study.arms import left_out
from isograft.study.places import STUDY_FILE
from isograft.study.spec import StudySpec, read_spec
from isograft.study.starts import unknown_past
from isograft.study.template import write_template

if TYPE_CHECKING:
    from isograft.study.engines import Engine
    from isograft.study.jobs import Job

_FREE = {"resume", "jobs", "engine", "dry_run", "cache_dir", "init"}  # may change when a study is resumed


def study(settings: StudySettings) -> dict[str, Any]:
    """Run a study, or go on with it, and write its report.

    Returns:
        The summary, as in summary.json; with `init` the template's path, with `dry_run` the jobs by kind.

    Raises:
        IsograftError: The study file cannot be used, an existing folder, or a job failed.
        RunInterrupted: Ctrl-C; finished jobs are kept and `resume=True` goes on.
    """
    if settings.init is not None:
        return {"template": str(write_template(settings.init))}
    assert settings.study is not None  # noqa: S101  (the settings require it)
    spec = read_spec(settings.study, settings.preset, settings.param)
    if settings.dry_run:
        return _dry_run(spec, settings)
    assert settings.out is not None  # noqa: S101
    asked = settings.model_dump(mode="json", exclude=_FREE)
    with run_folder(settings.out, asked, settings.resume) as run:
        run.check_inputs(study=_hash(spec))
        try:
            return _run(run, spec, settings)
        except KeyboardInterrupt:
            raise RunInterrupted(f"stopped; the finished jobs are in {run.path}: add --resume to continue") from None


def _run(run: RunFolder, spec: StudySpec, settings: StudySettings) -> dict[str, Any]:
    from isograft.study.planning import plan_jobs
    from isograft.study.report import write_report
    from isograft.study.results import write_results
    from isograft.study.runner import run_jobs

    slots, threads = _share(settings, run.record)
    run.remember(threads=threads)
    planned = plan_jobs(spec, _cache_dir(settings), threads, precision=run.record.get("precision"))
    run.remember(precision=planned.precision)
    run.check_inputs(jobs=hashlib.sha256("".join(job.key for job in planned.jobs).encode()).hexdigest())
    planned.write_manifests(run.path)
    about = {
        "spec": spec.model_dump(mode="json"),
        "left_out": left_out(spec),
        "software": environment(),
        "classes": planned.classes,
        "removed": planned.removed,
        "precision": planned.precision,
        "threads": threads,
        "fixed_splits": planned.fixed_splits,
        "unknown_past": unknown_past(spec.arms.values()),
    }
    _same_software(run.path / STUDY_FILE, environment())
    write_atomic(run.path / STUDY_FILE, json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    _tell(planned.jobs)
    run_jobs(planned.jobs, run.path, _engine(run.path, settings, slots, threads))
    write_results(run.path, planned.jobs)
    summary = write_report(run.path)
    console.say(f"report: {run.path / 'report.html'}")
    return summary


def _share(settings: StudySettings, record: Mapping[str, Any]) -> tuple[int, int]:
    """Jobs at a time and threads of each.

    The cores are dealt out among the jobs, within what OMP_NUM_THREADS allows. A study that goes on keeps the threads it began with,
    however many jobs: another number would round sums in another order.
    """
    import torch

    cores = core_count()
    if kept := record.get("threads"):
        return settings.jobs or max(1, cores // int(kept)), int(kept)
    slots = settings.jobs or cores
    return slots, max(1, min(cores // slots, torch.get_num_threads()))


def _cache_dir(settings: StudySettings) -> Path:
    return settings.cache_dir or default_cache_dir()


def _engine(out: Path, settings: StudySettings, slots: int, threads: int) -> Engine:
    from isograft.study.engines import LocalEngine
    from isograft.study.ray_engine import RayEngine

    kind = RayEngine if settings.engine == "ray" else LocalEngine
    return kind(out, _cache_dir(settings), slots, threads)


def _dry_run(spec: StudySpec, settings: StudySettings) -> dict[str, Any]:
    """List the jobs that are left with the time each will take, and what is left out."""
    from isograft.study.estimate import estimate, time_needed
    from isograft.study.planning import plan_jobs

    record = _record(settings.out)
    slots, threads = _share(settings, record)
    planned = plan_jobs(spec, _cache_dir(settings), threads, precision=record.get("precision"))
    needed = estimate(planned.jobs, settings.out, threads)
    for job in planned.jobs:
        told = console.duration(needed[job.key]) if job.key in needed else "finished"
        console.result(f"{job.key}  {job.images:>10,} images  {told:>8}  {job.name}")
    for sentence in left_out(spec):
        console.result(sentence)
    seconds = time_needed(planned.jobs, needed, slots)
    at_a_time = f"{slots} job{'s' if slots > 1 else ''} at a time on {threads} thread{'s' if threads > 1 else ''} each"
    console.result(f"{_count(planned.jobs)}; about {console.duration(seconds)} with {at_a_time}")
    images = sum(job.images for job in planned.jobs)
    return {"jobs": dict(Counter(job.kind for job in planned.jobs)), "left": len(needed), "images": images, "seconds": seconds}


def _record(out: Path | None) -> dict[str, Any]:
    """What a study that was begun in this folder has decided already; nothing when there is none."""
    try:
        record = json.loads((out / "run.json").read_bytes()) if out is not None else {}
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _same_software(path: Path, now: Mapping[str, str]) -> None:
    """Refuse to go on with other software: arms of one comparison would not be trained alike.

    Raises:
        IsograftError: A version or the kind of machine differs from what the study was begun with.
    """
    try:
        before = json.loads(path.read_bytes())["software"]
    except (OSError, ValueError, KeyError):
        return
    for name, version in before.items():
        if name != "cores" and now.get(name) != version:
            raise IsograftError(
                f"this study was begun with {name} {version}, and now there is {now.get(name, 'none')}; go on with the former, "
                "or begin anew in another --out"
            )


def _tell(jobs: Sequence[Job]) -> None:
    console.say(f"the study has {_count(jobs)}")


def _count(jobs: Sequence[Job]) -> str:
    kinds = sorted(Counter(job.kind for job in jobs).items())
    return f"{len(jobs):,} jobs ({', '.join(f'{number:,} {kind}' for kind, number in kinds)})"


def _hash(spec: StudySpec) -> str:
    return hashlib.sha256(json.dumps(spec.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()
