from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from isograft.study.halfway import CLOCK_FILE, begin, keep_states, remove_leftovers


def broken_off(folder: Path, name: str, saved: float | None, **clock: float) -> Path:
    """What a killed training leaves; `saved` is when its state was, in seconds since 1970."""
    path = folder / "jobs" / name
    (path / "model" / "checkpoints").mkdir(parents=True)
    (path / CLOCK_FILE).write_text(json.dumps(clock))
    if saved is not None:
        state = path / "model" / "checkpoints" / "last.ckpt"
        state.write_text(name)
        os.utime(state, (saved, saved))
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "jobs").iterdir())


def test_of_what_killed_jobs_left_only_the_newest_state_of_each_is_kept(tmp_path: Path) -> None:
    broken_off(tmp_path, "a.partial-9", 200.0)
    broken_off(tmp_path, "a.partial-10", 300.0)
    broken_off(tmp_path, "a.partial-11", 100.0)
    broken_off(tmp_path, "b.partial-9", None)
    (tmp_path / "jobs" / "c").mkdir()
    keep_states(tmp_path)
    assert names(tmp_path) == ["a.begun", "c"]
    assert (tmp_path / "jobs/a.begun/model/checkpoints/last.ckpt").read_text() == "a.partial-10"
    keep_states(tmp_path)
    assert names(tmp_path) == ["a.begun", "c"]
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["c"]


def test_a_job_takes_its_state_up_and_counts_the_time_it_took(tmp_path: Path) -> None:
    broken_off(tmp_path, "a.begun", 1_000.0, spent=30.0, began=900.0)
    place = tmp_path / "jobs" / "a"
    assert begin(place, tmp_path / "jobs" / "a.partial-1") == pytest.approx(130.0)
    assert names(tmp_path) == ["a.partial-1"]
    assert json.loads((tmp_path / "jobs/a.partial-1" / CLOCK_FILE).read_text())["spent"] == pytest.approx(130.0)
    assert begin(place, tmp_path / "jobs" / "a.partial-2") == 0.0, "another worker finds nothing to take up"


@pytest.mark.parametrize("clock", ["", "{}", "[]", '{"spent": null, "began": 1}'])
def test_a_damaged_clock_costs_only_the_time(tmp_path: Path, clock: str) -> None:
    path = broken_off(tmp_path, "a.begun", 1_000.0)
    (path / CLOCK_FILE).write_text(clock)
    assert begin(tmp_path / "jobs" / "a", tmp_path / "jobs" / "a.partial-1") == 0.0
    assert (tmp_path / "jobs/a.partial-1/model/checkpoints/last.ckpt").is_file()
