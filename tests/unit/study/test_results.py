import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from isograft.errors import IsograftError
from isograft.study.jobs import Job
from isograft.study.places import KEYS
from isograft.study.results import SCHEMA, done, write_results


def finish(folder: Path, key: str, rows: list[dict[str, Any]]) -> Job:
    place = folder / "jobs" / key
    place.mkdir(parents=True)
    (place / "done.json").write_text(json.dumps({"key": key, "rows": rows, "seconds": 1.5}))
    return Job(key=key, kind="run", name=key, parents=(), images=1, payload={})


def row(key: str, arm: str, repeat: int) -> dict[str, Any]:
    values = {name: "x" if kind == pl.String else 0.5 if kind == pl.Float64 else 1 for name, kind in SCHEMA.items()}
    return {**values, "arm": arm, "repeat": repeat, "mcc": None, "job": f"{key}/1-{repeat}"}


def test_the_order_in_which_jobs_finished_changes_no_byte(tmp_path: Path) -> None:
    rows = [("a", "scratch", 1), ("b", "imagenet", 0), ("c", "scratch", 0)]
    written = []
    for place, order in enumerate((rows, rows[::-1])):
        folder = tmp_path / str(place)
        jobs = [finish(folder, key, [row(key, arm, repeat)]) for key, arm, repeat in order]
        frame = write_results(folder, jobs)
        written.append((folder / "results.parquet").read_bytes())
    assert written[0] == written[1]
    assert frame.select(KEYS).rows() == sorted(frame.select(KEYS).rows())
    assert frame.schema == pl.Schema(SCHEMA)
    assert frame["mcc"].null_count() == 3


def test_jobs_that_are_not_finished_have_no_rows(tmp_path: Path) -> None:
    jobs = [finish(tmp_path, "a", [row("a", "scratch", 0)]), Job(key="b", kind="run", name="b", parents=(), images=1, payload={})]
    assert write_results(tmp_path, jobs).height == 1


def test_a_record_that_cannot_be_read_is_named_with_what_to_do(tmp_path: Path) -> None:
    one = finish(tmp_path, "a", [])
    (tmp_path / "jobs/a/done.json").write_text("{")
    with pytest.raises(IsograftError, match=r"done\.json cannot be read .*; delete the folder .*a and continue with --resume"):
        done(tmp_path, one)
