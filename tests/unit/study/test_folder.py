"""Reading what a study left on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from isograft.errors import IsograftError
from isograft.study.folder import StudyFolder


@pytest.fixture
def folder(tmp_path: Path, fabricate: Callable[..., Path]) -> Path:
    return fabricate(tmp_path / "s", skill={"scratch": 0.0, "in-domain": 0.3}, repeats=1, budgets=(10,), title="Lesions", data="/data/real")


def test_a_folder_reads_back_with_its_scopes_and_titles(folder: Path) -> None:
    study = StudyFolder.read(folder)
    assert study.scopes() == [("resnet18", "clean", "lesions")]
    assert study.title("lesions") == "Lesions, benign or not" and study.title("other") == "other"
    assert study.results["arm"].to_list() == ["in-domain", "scratch"]
    assert not study.synthetic


@pytest.mark.parametrize("name", ["study.json", "results.parquet"])
@pytest.mark.parametrize("content", [None, b"no such thing"])
def test_a_missing_or_damaged_file_is_one_clear_error(folder: Path, name: str, content: bytes | None) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(IsograftError, match=rf"{name} is missing or no .*; give the folder that isograft study wrote"):
        StudyFolder.read(folder)


def test_missing_columns_and_an_empty_table_are_errors(folder: Path) -> None:
    rows = pl.read_parquet(folder / "results.parquet")
    rows.drop("test_groups").write_parquet(folder / "results.parquet")
    with pytest.raises(IsograftError, match="no column 'test_groups'"):
        StudyFolder.read(folder)
    rows.clear().write_parquet(folder / "results.parquet")
    with pytest.raises(IsograftError, match="no finished run"):
        StudyFolder.read(folder)


def test_missing_predictions_name_the_file_and_what_to_do(folder: Path) -> None:
    with pytest.raises(IsograftError, match=r"jobs/gone/predictions.parquet is missing or damaged; .*--resume"):
        StudyFolder.read(folder).predictions("gone")


def test_a_ledger_line_cut_off_by_a_kill_is_left_out_and_the_last_of_two_lines_counts(folder: Path) -> None:
    lines = [json.dumps({"key": "a", "seconds": 1.0}), json.dumps({"key": "a", "seconds": 2.0}), '{"key": "b", "sec']
    (folder / "ledger.jsonl").write_text("\n".join(lines))
    assert StudyFolder.read(folder).ledger == {"a": {"key": "a", "seconds": 2.0}}


@pytest.mark.parametrize("change", [{"title": "On synthetic images"}, {"tasks": {"a": {"data": "/x/y/synthetic"}}}, None])
def test_a_study_that_calls_its_images_synthetic_is_known_as_such(folder: Path, change: dict[str, object] | None) -> None:
    about = json.loads((folder / "study.json").read_text())
    if change is None:
        about["synthetic"] = True
    else:
        about["spec"] |= change
    (folder / "study.json").write_text(json.dumps(about))
    assert StudyFolder.read(folder).synthetic
