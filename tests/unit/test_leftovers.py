"""Killed processes leave temporary files, and the next one that comes by removes them."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from isograft import leftovers
from isograft.leftovers import is_leftover, neighbour, remove_leftovers
from isograft.run import whole_folder, write_atomic

HOST = re.sub(r"\W+", "_", platform.node())[:32]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "_swept", set())


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_no_two_neighbours_are_the_same_and_all_are_known_for_what_they_are(tmp_path: Path) -> None:
    made = {neighbour(tmp_path / "a.parquet") for _ in range(3)}
    assert len(made) == 3
    assert all(is_leftover(path) and path.parent == tmp_path for path in made)
    assert is_leftover(tmp_path / ".last.ckpt.4711.tmp")
    assert not any(is_leftover(tmp_path / name) for name in ("a.tmp", ".a", ".a.tmp", ".a.tmp.tmp", "a.host-1-0.tmp"))


@pytest.mark.skipif(sys.platform == "win32", reason="processes cannot be asked for there")
def test_the_first_write_into_a_folder_removes_what_dead_processes_left_there_and_nothing_else(tmp_path: Path, dead: int) -> None:
    (tmp_path / f".a.parquet.{HOST}-{dead}-0.tmp").write_text("half")
    (tmp_path / f".model.{HOST}-{dead}-7.tmp").mkdir()
    (tmp_path / f".model.{HOST}-{dead}-7.tmp" / "deep").write_text("half")
    (tmp_path / f".mine.{HOST}-{os.getpid()}-0.tmp").write_text("of a process before us that had our number")
    kept = [f".b.{HOST}-{os.getppid()}-0.tmp", ".c.elsewhere-1-0.tmp", ".d.tmp", "notes.tmp"]
    for name in kept:
        (tmp_path / name).write_text("not ours to remove")
    write_atomic(tmp_path / "out", "whole")
    assert names(tmp_path) == sorted([*kept, "out"])


def test_what_another_machine_left_goes_when_it_is_old(tmp_path: Path) -> None:
    old, new = tmp_path / ".a.elsewhere-1-0.tmp", tmp_path / ".b.elsewhere-1-0.tmp"
    for path in (old, new):
        path.write_text("half")
    os.utime(old, (10**9, 10**9))
    neighbour(tmp_path / "x")
    assert names(tmp_path) == [new.name]


def test_a_folder_that_a_killed_process_of_our_number_left_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / f".out.{HOST}-{os.getpid()}-0.tmp").mkdir()
    with whole_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("1")
    assert names(tmp_path) == ["out"]


def test_who_holds_the_lock_of_a_folder_removes_all_there_is(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in (".a.elsewhere-1-0.tmp", "deep/.b.5.tmp", "deep/b", ".mine.tmp"):
        (tmp_path / name).write_text("x")
    remove_leftovers(tmp_path)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [".mine.tmp", "deep", "deep/b"]
