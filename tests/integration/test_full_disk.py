"""A full disk, or one that cannot be written: one sentence, what was there before is whole, and --resume goes on from it."""

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("limits the size of files by a call that Windows lacks", allow_module_level=True)

import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.integration.faults import Runs, weights

from isograft.data import cache_build
from isograft.errors import IsograftError
from isograft.leftovers import is_leftover
from isograft.model import Model
from isograft.run import RunFolder, run_folder
from isograft.train.callbacks import Checkpoint, History


@contextmanager
def room(size: int) -> Iterator[None]:
    """No file of this process can grow beyond so many bytes: the system refuses, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def full_at(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, size: int, when: Callable[..., bool] = lambda *_: True) -> None:
    """Let the disk be full while a function runs."""
    whole = getattr(owner, name)

    def limited(*given: Any, **named: Any) -> Any:
        if not when(*given):
            return whole(*given, **named)
        with room(size):
            return whole(*given, **named)

    monkeypatch.setattr(owner, name, limited)


def second_save(checkpoint: Checkpoint, trainer: Any) -> bool:
    return checkpoint.run.checkpoint.exists()


def second_history(history: History) -> bool:
    return history.path.exists()


FULL: dict[str, tuple[Any, str, int, Callable[..., bool], str]] = {
    "the state": (Checkpoint, "save", 20_000, second_save, r"cannot save the state to .*last\.ckpt: .*; the last good state is kept: free"),
    "history.csv": (History, "write", 100, second_history, r"cannot write .*history\.csv: File too large; free some space"),
    "run.json": (RunFolder, "remember", 300, lambda run: "plan" in run.record, r"cannot write .*run\.json: File too large; free some"),
    "model.safetensors": (Model, "write", 20_000, lambda *_: True, r"cannot write .*model\.safetensors: File too large; free some space"),
}


@pytest.mark.parametrize("story", ["pretrain", "finetune"])
@pytest.mark.parametrize("what", sorted(FULL))
def test_a_disk_that_is_full_is_one_sentence_and_the_resumed_run_ends_in_the_same_bytes(
    what: str, story: str, train: Runs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if what == "run.json" and story == "pretrain":
        pytest.skip("a pretraining with epochs writes its plan once, before there is anything to resume")
    owner, name, size, when, told = FULL[what]
    monkeypatch.setattr("isograft.train.recovery.LEAST_APART", 2)
    whole = weights(train(story, "whole"))
    with monkeypatch.context() as patch:
        full_at(patch, owner, name, size, when)
        with pytest.raises(IsograftError, match=told):
            train(story, "stopped")
    assert not [path for path in (tmp_path / "stopped").rglob("*") if is_leftover(path)]
    assert not (tmp_path / "stopped" / "model.json").exists()
    assert weights(train(story, "stopped", resume=True)) == whole


def test_a_disk_that_is_full_at_the_first_state_says_that_none_was_saved(train: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    full_at(monkeypatch, Checkpoint, "save", 20_000)
    with pytest.raises(IsograftError, match=r"cannot save the state .*; no state was saved yet: free some space"):
        train("pretrain", "model")


def test_a_disk_that_is_full_while_the_images_are_cached_is_one_sentence_and_leaves_no_half_cache(
    train: Runs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    full_at(monkeypatch, cache_build, "_append", 20_000)
    with pytest.raises(IsograftError, match=r"cache.*File too large.*--cache-dir"):
        train("pretrain", "model")
    assert not list((tmp_path / "cache").rglob("images-*"))
    assert not (tmp_path / "model").exists()


def test_an_output_folder_below_a_file_is_one_sentence(train: Runs, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for story in ("pretrain", "finetune"):
        with pytest.raises(IsograftError, match=r"cannot create --out .*: Not a directory; choose a writable folder"):
            train(story, "file/model")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 400 kB, or a skip where mounting is not allowed."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)], capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_cannot_be_written_is_one_sentence(train: Runs, small_disk: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for story in ("pretrain", "finetune"):
        with pytest.raises(IsograftError, match=r"cannot create --out .*: Read-only file system; choose a writable folder"):
            train(story, "disk/model")
    with pytest.raises(IsograftError, match="Read-only file system"):
        train("pretrain", "model", cache_dir=small_disk / "cache")


def test_a_disk_that_fills_up_in_the_middle_keeps_what_was_saved(train: Runs, small_disk: Path, tmp_path: Path) -> None:
    with pytest.raises(IsograftError, match=r"^cannot (save the state|keep the state|write) .*; .*free some space") as caught:
        train("pretrain", "disk/model")
    print(caught.value)
    assert not [path for path in small_disk.rglob("*") if is_leftover(path)]


@pytest.mark.parametrize("story", ["pretrain", "finetune"])
def test_a_second_run_on_the_folder_of_a_training_is_refused(story: str, train: Runs, tmp_path: Path) -> None:
    with run_folder(tmp_path / "model", {}, resume=False), pytest.raises(IsograftError, match="is in use by another run"):
        train(story, "model", resume=True)
