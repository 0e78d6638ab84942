from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

import isograft
from isograft.errors import IsograftError
from isograft.study.ray_engine import RayEngine

Write = Callable[..., Path]


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(IsograftError, match=r"pip install 'isograft\[cluster\]'"):
        RayEngine(tmp_path, tmp_path, 1, 1)


def test_a_study_on_ray_survives_the_loss_of_a_worker_and_gives_the_same_bytes(
    write_study: Write, study_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'isograft[cluster]'")
    isograft.study(write_study(), out=tmp_path / "local", cache_dir=study_cache, jobs=1)
    killed: list[int] = []
    finished = RayEngine.finished

    def kill_one(self: RayEngine) -> object:
        if not killed and (workers := _workers()):
            os.kill(workers[0], signal.SIGKILL)
            killed.append(workers[0])
        return finished(self)

    monkeypatch.setattr(RayEngine, "finished", kill_one)
    isograft.study(write_study(), out=tmp_path / "ray", cache_dir=study_cache, jobs=2, engine="ray")
    assert killed
    assert (tmp_path / "ray/results.parquet").read_bytes() == (tmp_path / "local/results.parquet").read_bytes()
    assert pl.read_parquet(tmp_path / "ray/results.parquet").height == 20


def _workers(seconds: float = 30.0) -> list[int]:
    """Processes in which Ray runs a job of a study right now."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    title = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if title.startswith(b"ray::_do"):
                    found.append(int(entry.name))
        if found:
            return found
        time.sleep(0.05)
    return []
