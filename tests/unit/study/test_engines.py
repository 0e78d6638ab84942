from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from isograft.errors import RunInterrupted
from isograft.study import work
from isograft.study.engines import LocalEngine
from isograft.study.jobs import Job

JOB = Job(key="k", kind="pretrain", name="job k", parents=(), images=1, payload={})
Working = Callable[..., dict[str, Any]]


@pytest.fixture
def works(monkeypatch: pytest.MonkeyPatch) -> Callable[[Working], None]:
    """A function that replaces what a job does."""

    def replace(working: Working) -> None:
        monkeypatch.setitem(work._WORK, "pretrain", working)

    return replace


def test_a_job_in_this_process_computes_on_its_threads_and_gives_the_others_back(works: Callable[[Working], None], tmp_path: Path) -> None:
    before, seen = torch.get_num_threads(), []

    def looks(job: Job, out: Path, partial: Path, cache_dir: Path, threads: int) -> dict[str, Any]:
        seen.append(torch.get_num_threads())
        return {"images_seen": 1, "rows": []}

    works(looks)
    with LocalEngine(tmp_path, tmp_path, 1, before + 1) as engine:
        engine.submit(JOB)
        assert list(engine.finished()) == [(JOB, None)]
    assert (seen, torch.get_num_threads()) == ([before + 1], before)


def test_what_breaks_in_a_job_is_written_to_its_log(works: Callable[[Working], None], tmp_path: Path) -> None:
    works(lambda *_: {}["missing"])
    with LocalEngine(tmp_path, tmp_path, 1, 1) as engine:
        engine.submit(JOB)
        ((_, error),) = engine.finished()
    assert isinstance(error, KeyError)
    assert "KeyError: 'missing'" in (tmp_path / "logs" / "k.txt").read_text()


def test_ctrl_c_in_a_job_of_this_process_stops_the_study(works: Callable[[Working], None], tmp_path: Path) -> None:
    def stops(*_: Any) -> dict[str, Any]:
        raise RunInterrupted("the state is in a folder that will be gone")

    works(stops)
    with LocalEngine(tmp_path, tmp_path, 1, 1) as engine, pytest.raises(KeyboardInterrupt):
        engine.submit(JOB)
        engine.finished()
