"""Runs the jobs of a study in the order that their dependencies allow, keeps the ledger, and shows how far it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from isograft import console
from isograft.errors import IsograftError, RunInterrupted
from isograft.study.engines import Engine
from isograft.study.halfway import keep_states, remove_leftovers
from isograft.study.jobs import Job
from isograft.study.ledger import Ledger
from isograft.study.results import done


def run_jobs(jobs: Sequence[Job], folder: Path, engine: Engine) -> None:
    """Do every job that is not finished yet.

    Args:
        jobs: All jobs, parents before children.
        folder: The study's folder.
        engine: Where they run.

    Raises:
        IsograftError: A job failed. No further one is begun, those that run are finished, and all that is finished is kept.
        KeyboardInterrupt: Ctrl-C reached a job.
    """
    keep_states(folder)
    ledger = Ledger(folder)
    left = []
    for job in jobs:
        if (record := done(folder, job)) is None:
            left.append(job)
        else:
            ledger.record(record)
    if not left:
        return
    kept = len(jobs) - len(left)
    console.say(f"{len(left):,} jobs to do" + (f", {kept:,} finished before" if kept else ""))
    with engine, console.Progress(sum(job.images for job in left), "Study") as progress:
        _run(left, folder, engine, ledger, progress)
    remove_leftovers(folder)  # of workers that were lost, and whose jobs others have done


def _run(left: Sequence[Job], folder: Path, engine: Engine, ledger: Ledger, progress: console.Progress) -> None:
    unfinished = {job.key for job in left}
    waiting, running, failed = list(left), 0, None
    while waiting or running:
        for job in [job for job in waiting if not unfinished & {*job.parents}] if failed is None else []:
            if running >= engine.slots:
                break
            waiting.remove(job)
            engine.submit(job)
            running += 1
        if not running:
            break
        for job, error in engine.finished():
            running -= 1
            if error is None and (record := done(folder, job)) is not None:
                ledger.record(record)
                unfinished.discard(job.key)
                progress.advance(job.images, job=f"{len(left) - len(unfinished)} of {len(left)}")
            else:
                failed = failed or (job, error)
    if failed is not None:
        raise _complaint(*failed, finished=len(left) - len(unfinished))


def _complaint(job: Job, error: BaseException | None, finished: int) -> BaseException:
    """What went wrong, in one sentence, with what is kept."""
    kept = f"{finished:,} job{'s were' if finished != 1 else ' was'} finished and kept: --resume goes on"
    if isinstance(error, RunInterrupted):
        return KeyboardInterrupt()
    if isinstance(error, IsograftError):
        return type(error)(f"{job.name}: {error}; {kept}")
    if error is None:
        return IsograftError(f"{job.name}: the job left no record; {kept}")
    said = " ".join(str(error).split()) or "no further word"
    return IsograftError(f"{job.name}: {type(error).__name__} ({said}), see logs/{job.key}.txt in the study's folder; {kept}")
