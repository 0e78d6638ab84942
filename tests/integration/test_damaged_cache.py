"""The cache of decoded images is damaged or deleted in the middle of a training, which ends in the bytes that it would have had."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import isograft
from isograft.errors import IsograftError, RunInterrupted
from isograft.train.pretrain_module import PretrainModule

GIVEN: dict[str, Any] = {"backbone": "test_resnet", "image_size": 32, "threads": 2, "precision": "fp32", "epochs": 4, "batch_size": 16}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for number in range(32):
        image = np.random.default_rng(number).normal(120, 40, size=(40, 40, 3)).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(root / f"{number}.png"), image)
    return root


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an undisturbed run and its cache."""
    folder = tmp_path_factory.mktemp("whole")
    isograft.pretrain(images, out=folder / "run", cache_dir=folder / "cache", **GIVEN)
    return folder


def weights(folder: Path) -> bytes:
    return (folder / "run" / "model.safetensors").read_bytes()


def at_step(monkeypatch: pytest.MonkeyPatch, number: int, what: Callable[[], Any]) -> None:
    """Do something in the middle of the training."""
    real = PretrainModule.training_step

    def training_step(self: Any, *given: Any) -> Any:
        if self.global_step == number:
            what()
        return real(self, *given)

    monkeypatch.setattr(PretrainModule, "training_step", training_step)


def the_cache(folder: Path) -> Path:
    (path,) = folder.glob("images-*.cache")
    return path


def overwrite(folder: Path, change: Callable[[bytes], bytes]) -> None:
    path = the_cache(folder)
    data = change(path.read_bytes())
    with path.open("r+b") as stream:
        stream.truncate(len(data))
        stream.write(data)
    os.utime(path, (10**9, 10**9))


def flipped(data: bytes) -> bytes:
    return bytes(255 - byte for byte in data[:-2000]) + data[-2000:]


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "flipped": lambda folder: overwrite(folder, flipped),
    "cut short": lambda folder: overwrite(folder, lambda data: data[:1000]),
    "deleted": lambda folder: the_cache(folder).unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_training_goes_on_and_ends_in_the_same_bytes(
    damage: str, images: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, seen = tmp_path / "cache", []
    at_step(monkeypatch, 3, lambda: seen.append(DAMAGES[damage](cache)))
    capsys.readouterr()
    isograft.pretrain(images, out=tmp_path / "run", cache_dir=cache, **GIVEN)
    assert seen
    assert capsys.readouterr().err.count("has been damaged") == (damage != "deleted")
    assert weights(tmp_path) == weights(whole)
    if damage == "flipped":
        assert the_cache(cache).read_bytes() == the_cache(whole / "cache").read_bytes(), "it has been mended"


def test_a_run_whose_cache_was_deleted_while_it_was_stopped_builds_it_again_and_ends_in_the_same_bytes(
    images: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"out": tmp_path / "run", "cache_dir": tmp_path / "cache", **GIVEN}
    with monkeypatch.context() as patch, pytest.raises(RunInterrupted):
        at_step(patch, 3, lambda: os.kill(os.getpid(), 2))
        isograft.pretrain(images, **given)
    the_cache(tmp_path / "cache").unlink()
    isograft.pretrain(images, resume=True, **given)
    assert weights(tmp_path) == weights(whole)


def test_without_cache_and_original_it_stops_with_one_sentence_keeps_its_state_and_goes_on_when_the_file_is_back(
    images: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isograft.ingest(images, out=tmp_path / "pool.parquet", threads=1)
    given = {"out": tmp_path / "run", "cache_dir": tmp_path / "cache", **GIVEN}
    lost = images / "7.png"
    kept = lost.read_bytes()

    def lose() -> None:
        lost.unlink()
        DAMAGES["flipped"](tmp_path / "cache")

    with monkeypatch.context() as patch, pytest.raises(IsograftError, match=r"has been damaged, and .*7\.png cannot be read any more"):
        at_step(patch, 3, lose)
        isograft.pretrain(tmp_path / "pool.parquet", **given)
    lost.write_bytes(kept)
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
    isograft.pretrain(tmp_path / "pool.parquet", resume=True, **given)
    assert weights(tmp_path) == weights(whole)
