"""Pretraining on a pool that stays in its tar shards: no cache, the same bytes however it runs, and leaks found as ever."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import isograft
from isograft.errors import IsograftError, LeakageError, RunInterrupted
from isograft.train.pretrain_module import PretrainModule

SMALL: dict[str, Any] = {"backbone": "test_resnet", "image_size": 32, "epochs": 3, "batch_size": 16, "precision": "fp32"}
STREAMED: dict[str, Any] = {**SMALL, "cache_limit": 0}


def picture(number: int) -> bytes:
    draw = np.random.default_rng(number)
    coarse = draw.integers(20 + 100 * (number % 2), 130 + 100 * (number % 2), (5, 6, 3)).astype(np.uint8)
    return cv2.imencode(".png", cv2.resize(coarse, (48, 40), interpolation=cv2.INTER_CUBIC))[1].tobytes()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `pool.parquet`, 80 images in two shards, `labeled/` to fine-tune on, and `asked/` to evaluate on."""
    root = tmp_path_factory.mktemp("data")
    (root / "shards").mkdir()
    for shard in range(2):
        with tarfile.open(root / "shards" / f"{shard}.tar", "w") as archive:
            for number in range(40 * shard, 40 * shard + 40):
                member, content = tarfile.TarInfo(f"{number:03d}.png"), picture(number)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    isograft.ingest(root / "shards", out=root / "pool.parquet")
    for folder, numbers in {"labeled": range(1000, 1060), "asked": range(2000, 2020)}.items():
        for number in numbers:
            path = root / folder / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(number))
    return root


@pytest.fixture(scope="module")
def whole(data: Path) -> Path:
    """The model of a run on one thread, with its cache folder beside it."""
    isograft.pretrain(data / "pool.parquet", out=data / "whole", cache_dir=data / "cache", threads=1, **STREAMED)
    return data / "whole"


def weights(model: Path) -> bytes:
    return (model / "model.safetensors").read_bytes()


def decided(model: Path) -> dict[str, Any]:
    return {entry["name"]: entry["value"] for entry in json.loads((model / "model.json").read_text())["plan"]}


def test_no_decoded_image_is_written_anywhere_and_the_plan_says_where_they_come_from(whole: Path, data: Path) -> None:
    assert not list(data.rglob("*.cache"))
    assert decided(whole)["images"] == "from shards"


def test_within_the_limit_the_pool_is_cached_as_ever(data: Path, tmp_path: Path) -> None:
    isograft.pretrain(data / "pool.parquet", out=tmp_path / "model", cache_dir=tmp_path / "cache", threads=1, **{**SMALL, "epochs": 1})
    assert list((tmp_path / "cache").glob("images-*.cache")) and "images" not in decided(tmp_path / "model")


@pytest.mark.parametrize("threads", [2, 4])
def test_the_number_of_threads_does_not_change_the_bytes(whole: Path, data: Path, tmp_path: Path, threads: int) -> None:
    isograft.pretrain(data / "pool.parquet", out=tmp_path / "model", cache_dir=tmp_path / "cache", threads=threads, **STREAMED)
    assert weights(tmp_path / "model") == weights(whole)


@pytest.mark.parametrize("step", [2, 7])  # in the first epoch of five steps, and in the second
def test_a_run_that_was_stopped_resumes_to_the_bytes_of_one_that_was_not(
    whole: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    real = PretrainModule.training_step

    def press(self: Any, batch: Any, batch_idx: int) -> Any:
        if self.global_step == step:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, batch, batch_idx)

    given = {"out": tmp_path / "model", "cache_dir": tmp_path / "cache", "threads": 1, **STREAMED}
    monkeypatch.setattr(PretrainModule, "training_step", press)
    with pytest.raises(RunInterrupted):
        isograft.pretrain(data / "pool.parquet", **given)
    monkeypatch.undo()
    with pytest.raises(IsograftError, match=r"cache.limit"):
        isograft.pretrain(data / "pool.parquet", resume=True, **{**given, "cache_limit": 1})
    isograft.pretrain(data / "pool.parquet", resume=True, **given)
    assert weights(tmp_path / "model") == weights(whole)


def test_what_was_seen_is_remembered_and_an_evaluation_on_it_is_refused(whole: Path, data: Path, tmp_path: Path) -> None:
    pool = isograft.Manifest.read(data / "pool.parquet")
    assert set(isograft.Model.load(whole).seen()["pixel_hash"]) == set(pool.frame["pixel_hash"])
    given = {"init": whole, "strategy": "probe", "test_fraction": 0.3, "cache_dir": tmp_path / "cache"}
    isograft.finetune(data / "labeled", out=tmp_path / "tuned", **given)
    isograft.evaluate(tmp_path / "tuned", data / "asked", out=tmp_path / "evaluated")
    copy = cv2.imdecode(np.frombuffer(picture(6), np.uint8), cv2.IMREAD_COLOR)
    cv2.imwrite(str(data / "asked" / "a" / "copy.jpg"), cv2.resize(copy, (96, 80)))  # of an image of the pool, not its bytes
    with pytest.raises(LeakageError, match=r"copy\.jpg"):
        isograft.evaluate(tmp_path / "tuned", data / "asked", out=tmp_path / "refused")


def test_a_shard_that_changed_after_ingest_ends_the_run_with_its_name(data: Path, tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    for path in (data / "shards").iterdir():
        (tmp_path / "shards" / path.name).write_bytes(path.read_bytes())
    isograft.ingest(tmp_path / "shards", out=tmp_path / "pool.parquet")
    shard = tmp_path / "shards" / "1.tar"
    content = bytearray(shard.read_bytes())
    old = picture(55)
    place = content.index(old)
    content[place : place + len(old)] = picture(2)[: len(old)].ljust(len(old), b"\0")
    shard.write_bytes(content)
    with pytest.raises(IsograftError, match=r"1\.tar#055\.png (has changed|cannot be read any more)"):
        isograft.pretrain(tmp_path / "pool.parquet", out=tmp_path / "model", cache_dir=tmp_path / "cache", threads=1, **STREAMED)
    assert not (tmp_path / "model" / "model.json").exists()
