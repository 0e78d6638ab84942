"""What may happen to a study while it runs: a second one at its folder, and data that change under it."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import polars as pl
import pytest
import yaml

import isograft
from isograft.errors import IsograftError

SPEC: dict[str, Any] = {
    "title": "tiny synthetic study",
    "pools": {"p": {"data": "pool"}},
    "tasks": {"t": {"data": "task"}},
    "arms": {"scratch": [], "in-domain": ["pool:p"]},
    "labels_per_class": [3],
    "repeats": 1,
    "backbones": ["test_resnet"],
    "image_size": 32,
    "pretrain": {"epochs": 1, "batch_size": 16},
    "finetune": {"strategy": "probe"},
}

runner = importlib.import_module("isograft.study.runner")


@pytest.fixture
def data(synthetic_study: Path, tmp_path: Path) -> Path:
    """A copy of the images, with the study beside them."""
    folder = tmp_path / "data"
    shutil.copytree(synthetic_study, folder, ignore=shutil.ignore_patterns("*.yaml"))
    (folder / "study.yaml").write_text(yaml.safe_dump(SPEC))
    return folder


def run(data: Path, out: str = "out", **more: Any) -> dict[str, Any]:
    return isograft.study(data / "study.yaml", out=data.parent / out, cache_dir=data.parent / "cache", jobs=1, **more)


def disturb(monkeypatch: pytest.MonkeyPatch, what: Any) -> None:
    """Do something once the study is planned and before its first job begins."""
    real = runner._run

    def disturbed(*given: Any) -> None:
        what()
        real(*given)

    monkeypatch.setattr(runner, "_run", disturbed)


def invert(file: Path) -> None:
    cv2.imwrite(str(file), 255 - cv2.imread(str(file)))


@pytest.fixture
def results(data: Path) -> Iterator[bytes]:
    """What the undisturbed study gives."""
    run(data, "whole")
    shutil.rmtree(data.parent / "cache")
    yield (data.parent / "whole" / "results.parquet").read_bytes()


@pytest.mark.parametrize("resume", [False, True])
def test_two_studies_do_not_share_a_folder_and_the_first_is_not_disturbed(
    resume: bool, data: Path, results: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []

    def begin_another() -> None:
        with pytest.raises(IsograftError, match=r"in use by another run|already exists") as caught:
            run(data, resume=resume)
        refused.append(str(caught.value))

    disturb(monkeypatch, begin_another)
    run(data)
    assert len(refused) == 1 and ("in use by another run" in refused[0]) == resume
    assert (data.parent / "out" / "results.parquet").read_bytes() == results


def test_an_image_of_the_pool_that_changes_under_a_study_stops_it_with_one_sentence_and_restored_it_goes_on_to_the_same_bytes(
    data: Path, results: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = data / "pool" / "spot" / "5.png"
    with monkeypatch.context() as patch, pytest.raises(IsograftError, match=rf"{changed.name} has changed.*--resume goes on"):
        disturb(patch, lambda: invert(changed))
        run(data)
    with pytest.raises(IsograftError, match="the images of the study changed since the run"):
        run(data, resume=True)
    invert(changed)
    run(data, resume=True)
    assert (data.parent / "out" / "results.parquet").read_bytes() == results


@pytest.mark.parametrize("change", ["added", "deleted"])
def test_a_pool_whose_files_come_or_go_under_a_study_changes_nothing_of_it_but_cannot_be_resumed(
    change: str, data: Path, results: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = data / "pool" / "spot" / "5.png"

    def alter() -> None:
        if change == "added":
            shutil.copy(file, file.with_name("new.png"))
            invert(file.with_name("new.png"))
        else:
            file.unlink()

    with monkeypatch.context() as patch:
        disturb(patch, alter)
        if change == "added":
            run(data)
            assert (data.parent / "out" / "results.parquet").read_bytes() == results
        else:
            with pytest.raises(IsograftError, match=rf"{file.name} cannot be read any more.*--resume goes on"):
                run(data)
    with pytest.raises(IsograftError, match=r"the images of the study changed since the run in .* start a new --out"):
        run(data, resume=True)


def test_a_study_file_that_changed_is_noticed_as_such(data: Path) -> None:
    run(data)
    (data / "study.yaml").write_text(yaml.safe_dump({**SPEC, "title": "another title"}))
    with pytest.raises(IsograftError, match="the study file changed since the run"):
        run(data, resume=True)


def test_a_pool_that_is_ingested_again_with_other_labels_is_another_pool(data: Path) -> None:
    isograft.ingest(data / "task", out=data / "task.parquet", threads=1)
    spec = {**SPEC, "tasks": {"t": {"data": "task.parquet"}}}
    (data / "study.yaml").write_text(yaml.safe_dump(spec))
    run(data)
    frame = pl.read_parquet(data / "task.parquet")
    frame.with_columns(label=pl.when(pl.col("label") == "spot").then(pl.lit("dot")).otherwise("label")).write_parquet(data / "task.parquet")
    with pytest.raises(IsograftError, match="the images of the study changed since the run"):
        run(data, resume=True)
