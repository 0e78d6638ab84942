"""results.parquet: one row per run, with no times in it, so that a killed and resumed study gives the same bytes as one never killed."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from isograft.errors import IsograftError
from isograft.run import write_atomic
from isograft.study.influence import FIGURES
from isograft.study.jobs import Job
from isograft.study.places import DONE_FILE, JOBS_FOLDER, KEYS, RESULTS_FILE

SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("backbone", "protocol", "task", "arm"), pl.String),
    **dict.fromkeys(("labels_per_class", "repeat", "seed", "train_images", "test_images", "test_groups"), pl.Int64),
    **dict.fromkeys(("pool_images", "pool_removed", "pretrain_images_seen", "finetune_images_seen"), pl.Int64),
    **dict.fromkeys(FIGURES, pl.Float64),
    "job": pl.String,
}
"""Columns; `labels_per_class` is 0 for all labels, a figure is null where it is undefined, `job` is the run's folder below jobs/."""


def done(folder: Path, job: Job) -> dict[str, Any] | None:
    """What a job said when it was finished, or None when it is not.

    Args:
        folder: The study's folder.
        job: The job.

    Raises:
        IsograftError: Its record cannot be read.
    """
    path = folder / JOBS_FOLDER / job.key / DONE_FILE
    if not path.is_file():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise IsograftError(f"{path} cannot be read ({error}); delete the folder {path.parent} and continue with --resume") from error
    return record


def write_results(folder: Path, jobs: Sequence[Job]) -> pl.DataFrame:
    """Write results.parquet from all finished jobs, atomically, and return it, sorted by what tells runs apart (`KEYS`)."""
    records = [record for job in jobs if (record := done(folder, job)) is not None]
    frame = pl.DataFrame([row for record in records for row in record["rows"]], schema=SCHEMA).sort(KEYS)
    content = io.BytesIO()
    frame.write_parquet(content)
    write_atomic(folder / RESULTS_FILE, content.getvalue())
    return frame
