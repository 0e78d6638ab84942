"""Runs the jobs of a study in the order that their dependencies allow, keeps the ledger, and shows how far it is."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from isograft import console
from isograft.errors import IsograftError
from isograft.study.engines import Engine
from isograft.study.jobs import Job
from isograft.study.ledger import Ledger
from isograft.study.results import JOBS_FOLDER, done


def run_jobs(jobs: Sequence[Job], folder: Path, engine: Engine) -> None:
    """Do every job that is not finished yet.

    Args:
        jobs: All jobs, parents before children.
        folder: The study's folder.
        engine: Where they run.

    Raises:
        IsograftError: A job failed. No further one is begun, those that run are finished, and all that is finished is kept.
    """
    remove_leftovers(folder)
    ledger = Ledger(folder)
    for job in jobs:
        if (record := done(folder, job)) is not None:
            ledger.record(record)
    left = [job for job in jobs if done(folder, job) is None]
    if not left:
        return
    kept = len(jobs) - len(left)
    console.say(f"{len(left):,} jobs to do" + (f", {kept:,} finished before" if kept else ""))
    with engine, console.Progress(sum(job.images for job in left), "Study") as progress:
        _run(left, folder, engine, ledger, progress)


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
        job, error = failed
        if error is not None and not isinstance(error, IsograftError):
            raise error
        kind = type(error) if isinstance(error, IsograftError) else IsograftError
        kept = f"{len(left) - len(unfinished):,} jobs were finished and are kept: --resume goes on"
        raise kind(f"{job.name}: {error or 'the job left no record'}; {kept}")


def remove_leftovers(folder: Path) -> None:
    """Remove what killed jobs left half-done; the study's lock says that none of them still runs."""
    for path in (folder / JOBS_FOLDER).glob("*.partial-*"):
        shutil.rmtree(path, ignore_errors=True)
