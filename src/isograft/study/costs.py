"""What every arm cost: minutes and images seen, of its runs and of what they start from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from isograft.study.folder import StudyFolder


@dataclass(frozen=True)
class Cost:
    """Mean cost of one run of an arm, and of what comes before it.

    Attributes:
        backbone: The backbone.
        protocol: The protocol.
        task: The task.
        arm: The arm.
        runs: How many runs.
        run_seconds: Mean time of one run; None where the ledger has no times.
        run_images: Mean number of images a run was fitted on, repetitions counted.
        before_seconds: Time of all jobs that one run starts from (pretraining, earlier tasks), mean over the runs; None where the
            ledger does not say which these are.
        before_images: Images seen before, repetitions counted, mean over the runs.
        before_jobs: How many different jobs all these runs start from.
    """

    backbone: str
    protocol: str
    task: str
    arm: str
    runs: int
    run_seconds: float | None
    run_images: float
    before_seconds: float | None
    before_images: float
    before_jobs: int


def costs(folder: StudyFolder) -> list[Cost]:
    """Cost of every arm by backbone, protocol and task; a job that several runs start from counts for each of them."""
    found = []
    for scope in folder.scopes():
        compared = folder.rows(scope)
        for arm in [name for name in folder.spec.get("arms", {}) if name in set(compared["arm"])]:
            rows = compared.filter(pl.col("arm") == arm)
            before = [ancestors(folder, job) for job in rows["job"]]
            told = all("parents" in folder.ledger.get(job, {}) for job in rows["job"])
            found.append(
                Cost(
                    *(*scope, arm, rows.height),
                    run_seconds=_mean(_seconds(folder, [job]) for job in rows["job"]),
                    run_images=_column_mean(rows, "finetune_images_seen"),
                    before_seconds=_mean(_seconds(folder, jobs) for jobs in before) if told else None,
                    before_images=_column_mean(rows, "pretrain_images_seen"),
                    before_jobs=len({job for jobs in before for job in jobs}),
                )
            )
    return found


def total_seconds(folder: StudyFolder) -> float | None:
    """Time of all jobs, each counted once; None without a ledger."""
    return _seconds(folder, folder.ledger) if folder.ledger else None


def ancestors(folder: StudyFolder, job: str) -> list[str]:
    """Keys of all jobs a job starts from, directly or not, by the `parents` of the ledger."""
    found: list[str] = []
    waiting = list(folder.ledger.get(job, {}).get("parents") or ())
    while waiting:
        key = str(waiting.pop())
        if key not in found:
            found.append(key)
            waiting += folder.ledger.get(key, {}).get("parents") or ()
    return sorted(found)


def _seconds(folder: StudyFolder, jobs: Iterable[str]) -> float | None:
    """Time of some jobs; None when one of them has none."""
    times = [folder.ledger.get(job, {}).get("seconds") for job in jobs]
    return None if None in times else sum((float(time) for time in times if time is not None), start=0.0)


def _mean(values: Iterable[float | None]) -> float | None:
    listed = list(values)
    known = [value for value in listed if value is not None]
    return sum(known) / len(known) if known and len(known) == len(listed) else None


def _column_mean(rows: pl.DataFrame, name: str) -> float:
    return float(rows[name].cast(pl.Float64).fill_null(0).to_numpy().mean()) if name in rows.columns else 0.0
