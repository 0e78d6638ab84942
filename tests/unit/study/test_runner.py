from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isograft.errors import IsograftError, LeakageError, RunInterrupted
from isograft.study.jobs import Job
from isograft.study.ledger import read_entries
from isograft.study.places import LEDGER_FILE
from isograft.study.runner import run_jobs


def job(key: str, *parents: str) -> Job:
    return Job(key=key, kind="pretrain", name=f"job {key}", parents=parents, images=10, payload={})


class Recorder:
    """An engine that does nothing but leave a record, in the order it is told to finish jobs."""

    def __init__(self, folder: Path, slots: int = 2, failing: dict[str, BaseException] | None = None, last_first: bool = False) -> None:
        self.folder, self.slots, self.failing, self.last_first = folder, slots, failing or {}, last_first
        self.running: list[Job] = []
        self.begun: list[str] = []
        self.most = 0

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def submit(self, one: Job) -> None:
        for parent in one.parents:
            assert (self.folder / "jobs" / parent / "done.json").is_file(), f"{one.key} began before its parent {parent}"
        self.begun.append(one.key)
        self.running.append(one)
        self.most = max(self.most, len(self.running))

    def finished(self) -> Iterable[tuple[Job, BaseException | None]]:
        one = self.running.pop(-1 if self.last_first else 0)
        if one.key in self.failing:
            return [(one, self.failing[one.key])]
        place = self.folder / "jobs" / one.key
        place.mkdir(parents=True)
        times = {"started": "", "finished": "", "seconds": 1.0}
        record = {"key": one.key, "kind": one.kind, "name": one.name, "parents": one.parents, **times, "images_seen": 10, "rows": []}
        (place / "done.json").write_text(json.dumps(record))
        return [(one, None)]


@given(st.lists(st.sets(st.integers(0, 9), max_size=3), min_size=1, max_size=10), st.integers(1, 4), st.booleans())
def test_every_job_is_done_once_and_after_its_parents(
    tmp_path_factory: pytest.TempPathFactory, parents: list[set[int]], slots: int, last_first: bool
) -> None:
    folder = tmp_path_factory.mktemp("study")
    jobs = [job(str(number), *(str(parent) for parent in sorted(chosen) if parent < number)) for number, chosen in enumerate(parents)]
    engine = Recorder(folder, slots, last_first=last_first)
    run_jobs(jobs, folder, engine)
    assert sorted(engine.begun) == sorted(one.key for one in jobs)
    assert engine.most <= slots
    assert {entry["key"] for entry in read_entries(folder / LEDGER_FILE)} == {one.key for one in jobs}


def test_a_resumed_study_repeats_no_finished_job_and_completes_the_ledger(tmp_path: Path) -> None:
    jobs = [job("a"), job("b", "a"), job("c", "a")]
    run_jobs(jobs[:2], tmp_path, Recorder(tmp_path))
    (tmp_path / "ledger.jsonl").unlink()
    engine = Recorder(tmp_path)
    run_jobs(jobs, tmp_path, engine)
    assert engine.begun == ["c"]
    assert {entry["key"] for entry in read_entries(tmp_path / LEDGER_FILE)} == {"a", "b", "c"}


@pytest.mark.parametrize("error", [IsograftError("the data are gone"), LeakageError("seen before")])
def test_a_failed_job_stops_the_study_with_one_sentence_and_keeps_the_rest(error: IsograftError, tmp_path: Path) -> None:
    jobs = [job("a"), job("b"), job("c", "a"), job("d", "b"), job("e", "c")]
    engine = Recorder(tmp_path, slots=2, failing={"a": error})
    with pytest.raises(type(error), match=rf"^job a: {error}; 1 job was finished and kept: --resume goes on$"):
        run_jobs(jobs, tmp_path, engine)
    assert engine.begun == ["a", "b"]
    assert not engine.running


def test_a_job_that_breaks_is_named_with_what_it_said_on_one_line(tmp_path: Path) -> None:
    broken = RuntimeError("no memory\nfor this")
    with pytest.raises(
        IsograftError, match=r"^job a: RuntimeError \(no memory for this\), see logs/a\.txt .*; 0 jobs were finished and kept"
    ):
        run_jobs([job("a")], tmp_path, Recorder(tmp_path, failing={"a": broken}))


def test_an_interrupted_job_is_an_interruption_of_the_study_and_no_failure(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_jobs([job("a")], tmp_path, Recorder(tmp_path, failing={"a": RunInterrupted("stopped at step 3")}))


def test_what_a_lost_worker_left_is_removed_at_the_end(tmp_path: Path) -> None:
    class Losing(Recorder):
        def submit(self, one: Job) -> None:
            (self.folder / "jobs" / f"{one.key}.partial-9").mkdir(parents=True)
            super().submit(one)

    run_jobs([job("a"), job("b")], tmp_path, Losing(tmp_path))
    assert sorted(path.name for path in (tmp_path / "jobs").iterdir()) == ["a", "b"]
