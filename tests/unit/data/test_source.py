from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from isograft.data import source
from isograft.data.ingest import ingest
from isograft.data.manifest import Manifest
from isograft.data.source import default_cache_dir, open_data
from isograft.errors import IsograftError
from isograft.settings import DataSettings, FinetuneSettings, IngestSettings

Writer = Callable[[Path, np.ndarray], Path]


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., DataSettings]:
    return lambda **options: DataSettings.model_validate({"cache_dir": tmp_path / "cache", **options})


@pytest.fixture
def written(image_tree: Path, tmp_path: Path) -> Path:
    ingest(IngestSettings.model_validate({"source": (image_tree,), "out": tmp_path / "m.parquet"}))
    return tmp_path / "m.parquet"


def test_a_manifest_of_a_manifest_is_itself(written: Path, settings: Callable[..., DataSettings]) -> None:
    opened = open_data(str(written), settings(), need_labels=True)
    assert opened.frame.equals(Manifest.read(written).frame)
    assert all(path.is_file() for path in opened.locate())


def test_a_folder_and_its_manifest_are_the_same_data(written: Path, image_tree: Path, settings: Callable[..., DataSettings]) -> None:
    assert open_data(str(image_tree), settings(), True).fingerprint() == Manifest.read(written).fingerprint()


def test_a_folder_is_decoded_once_until_a_file_changes(
    image_tree: Path, settings: Callable[..., DataSettings], monkeypatch: pytest.MonkeyPatch, write_image: Writer
) -> None:
    runs: list[int] = []
    real = source.read_sources
    monkeypatch.setattr(source, "read_sources", lambda *args, **names: runs.append(1) or real(*args, **names))
    first = open_data(str(image_tree), settings(), True)
    again = open_data(str(image_tree), settings(), True)
    assert len(runs) == 1 and first.frame.equals(again.frame)
    write_image(image_tree / "dark" / "dark0.png", np.zeros((7, 7, 3), np.uint8))
    assert open_data(str(image_tree), settings(), True).fingerprint() != first.fingerprint()
    assert len(runs) == 2


def test_a_damaged_cache_is_made_again(image_tree: Path, tmp_path: Path, settings: Callable[..., DataSettings]) -> None:
    first = open_data(str(image_tree), settings(), True)
    for cached in (tmp_path / "cache" / "manifests").iterdir():
        cached.write_bytes(b"damaged")
    assert open_data(str(image_tree), settings(), True).frame.equals(first.frame)


def test_a_csv_names_the_images_and_other_files_beside_it_do_not_matter(image_tree: Path, settings: Callable[..., DataSettings]) -> None:
    csv = image_tree / "some.csv"
    csv.write_text("file,dx,patient\ndark/dark0.png,a,p1\nlight/light3,b,p2\n")
    opened = open_data(str(csv), settings(label_column="dx", group_column="patient"), need_labels=True)
    assert opened.labels().tolist() == ["a", "b"] and opened.groups().tolist() == ["p1", "p2"]
    csv.write_text("file,dx\ndark/dark0.png,a\ngone.png,b\n")
    with pytest.raises(IsograftError, match="1 CSV rows without a file: gone"):
        open_data(str(csv), settings(label_column="dx"), need_labels=True)


def test_a_csv_that_names_its_files_exactly_has_nothing_beside_them_listed_or_looked_at(
    image_tree: Path, settings: Callable[..., DataSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    csv = image_tree / "some.csv"
    csv.write_text(f"n,file,dx\n1,dark/dark0.png,a\n2,{image_tree}/light/light3.png,b\n3,gone.png,b\n")
    stat, scandir, asked = os.stat, os.scandir, set()

    def noting(path: Any, *args: Any, **names: Any) -> os.stat_result:
        asked.add(os.fspath(path) if isinstance(path, str | os.PathLike) else path)
        return stat(path, *args, **names)

    def refuse(folder: Any = ".") -> Any:
        assert not Path(folder).is_relative_to(image_tree), "a folder of images was listed"
        return scandir(folder)

    monkeypatch.setattr(os, "stat", noting)
    monkeypatch.setattr(os, "scandir", refuse)
    opened = open_data(str(csv), settings(label_column="dx", where="n < 3"), need_labels=True)
    monkeypatch.undo()
    assert opened.labels().tolist() == ["a", "b"] and all(path.is_file() for path in opened.locate())
    assert {Path(path).name for path in asked if isinstance(path, str) and path.endswith(".png")} <= {"dark0.png", "light3.png", "gone.png"}


def test_a_csv_may_name_files_outside_its_folder(image_tree: Path, tmp_path: Path, settings: Callable[..., DataSettings]) -> None:
    (tmp_path / "tables").mkdir()
    csv = tmp_path / "tables" / "some.csv"
    csv.write_text(f"file\n../tree/dark/dark0.png\n{image_tree}/light/light3.png\n")
    assert len(open_data(str(csv), settings(), need_labels=False)) == 2


@pytest.mark.parametrize("exact", [True, False])
def test_repeated_rows_and_conflicting_labels_are_errors_whether_files_are_named_exactly_or_searched_for(
    exact: bool, image_tree: Path, settings: Callable[..., DataSettings]
) -> None:
    csv = image_tree / "some.csv"
    cell = "dark/dark0.png" if exact else "dark0"
    csv.write_text(f"file,dx\n{cell},a\nlight/light3.png,b\n{cell},b\n")
    with pytest.raises(
        IsograftError, match=r"1 CSV rows that repeat a file: dark.*1 files with conflicting labels: dark/dark0\.png \(a, b\)"
    ):
        open_data(str(csv), settings(label_column="dx"), need_labels=True)


def finetuning(data: Path, val: Path, tmp_path: Path, **options: Any) -> FinetuneSettings:
    return FinetuneSettings.model_validate(
        {"data": str(data), "val": str(val), "out": tmp_path / "o", "init": "scratch", "cache_dir": tmp_path / "cache", **options}
    )


@pytest.fixture
def two(image_tree: Path, tmp_path: Path) -> tuple[Path, Path, Path]:
    """Two flat folders, `train` and `val`, and a CSV that names the images of both, with diagnoses and patients."""
    rows = ["file,dx,patient,age"]
    for number, path in enumerate(sorted(image_tree.rglob("*.png"))):
        side = "val" if number % 3 == 0 else "train"
        (tmp_path / side).mkdir(exist_ok=True)
        path.rename(tmp_path / side / path.name)
        rows.append(f"{path.name},{path.parent.name},p{number},{number}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    return tmp_path / "train", tmp_path / "val", tmp_path / "labels.csv"


COLUMNS = {"label_column": "dx", "group_column": "patient"}


def test_one_csv_serves_data_and_val_when_it_names_the_images_of_both(two: tuple[Path, Path, Path], tmp_path: Path) -> None:
    train, val, labels = two
    asked = finetuning(train, val, tmp_path, labels=labels, where="age > 0", **COLUMNS)
    data, held = (open_data(name, asked, need_labels=True) for name in (asked.data, str(asked.val)))
    assert (len(data), len(held)) == (8, 3)
    assert all(path.parent == train for path in data.locate()) and all(path.parent == val for path in held.locate())
    assert held.classes() == ["dark", "light"] and not set(data.groups()) & set(held.groups())


def test_a_csv_for_both_must_still_fit_them_row_by_row(two: tuple[Path, Path, Path], tmp_path: Path) -> None:
    train, val, labels = two
    (val / "dark1.png").write_bytes((train / "dark1.png").read_bytes())
    labels.write_text(labels.read_text() + "\ngone.png,dark,p,1")
    asked = finetuning(train, val, tmp_path, labels=labels, **COLUMNS)
    with pytest.raises(IsograftError, match=r"1 CSV rows that fit several files: dark1\.png .*1 CSV rows without a file: gone\.png;"):
        open_data(asked.data, asked, need_labels=True)


def test_val_as_a_manifest_or_a_csv_of_its_own_takes_the_columns_and_rows_but_not_the_labels_of_data(
    two: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    train, val, labels = two
    lines = labels.read_text().splitlines()
    labels.write_text("\n".join([lines[0], *(line for line in lines[1:] if (train / line.split(",")[0]).exists())]))
    own = val / "own.csv"
    own.write_text("\n".join([lines[0], *(line for line in lines[1:] if line not in labels.read_text())]))
    ingest(IngestSettings.model_validate({"source": (val,), "labels": own, "out": tmp_path / "val.parquet", **COLUMNS}))
    for given in (own, tmp_path / "val.parquet"):
        asked = finetuning(train, given, tmp_path, labels=labels, path_column="file", where="age > 0", **COLUMNS)
        assert len(open_data(asked.data, asked, need_labels=True)) == 8
        held = open_data(str(given), asked, need_labels=True)
        assert len(held) == 3 and set(held.groups()) == {"p3", "p6", "p9"}


def test_val_with_classes_of_its_own_keeps_them_and_says_so(
    two: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even where its files are called like those of DATA."""
    train, val, labels = two
    lines = labels.read_text().splitlines()
    labels.write_text("\n".join([lines[0], *(line for line in lines[1:] if (train / line.split(",")[0]).exists())]))
    for path in list(val.iterdir()):
        (val / path.name[:-5]).mkdir(exist_ok=True)
        path.rename(val / path.name[:-5] / path.name.replace("3", "1"))
    asked = finetuning(train, val, tmp_path, labels=labels, **COLUMNS)
    assert len(open_data(asked.data, asked, need_labels=True)) == 8
    assert open_data(str(val), asked, need_labels=True).classes() == ["dark", "light"]
    assert f"only {train} by --labels, --label-column, --group-column" in capsys.readouterr().err


def test_columns_and_rows_of_a_manifest_can_be_chosen(written: Path, settings: Callable[..., DataSettings]) -> None:
    whole = Manifest.read(written)
    frame = whole.frame.with_columns(stage=pl.Series([1, 2] * 6), patient=pl.Series(["p"] * 12))
    Manifest(frame, written).write(written)
    opened = open_data(str(written), settings(label_column="stage", group_column="patient", where="label = 'dark'"), need_labels=True)
    assert opened.classes() == ["1", "2"] and set(opened.groups()) == {"p"} and len(opened) == 6


def test_unusable_rows_are_left_out_and_said(
    image_tree: Path, settings: Callable[..., DataSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    (image_tree / "dark" / "bad.png").write_text("no image")
    for _ in range(2):  # decoded, then from the cache
        assert len(open_data(str(image_tree), settings(), True)) == 12
        assert "1 of 13 images cannot be used" in capsys.readouterr().err


def test_images_without_a_label_are_left_out_only_where_labels_are_needed(
    image_tree: Path, write_image: Writer, settings: Callable[..., DataSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(image_tree / "loose.png", np.zeros((9, 9, 3), np.uint8))
    assert len(open_data(str(image_tree), settings(), need_labels=False)) == 13
    assert len(open_data(str(image_tree), settings(), need_labels=True)) == 12
    assert "1 of 13 usable images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        ("none", {}, "does not exist"),
        ("m.parquet", {"label_column": "dx"}, "no column dx"),
        ("m.parquet", {"labels": "x.csv"}, "go with a folder"),
        ("m.parquet", {"where": "label = 'x'"}, "holds for no image"),
        ("m.parquet", {"where": "nonsense ="}, "--where"),
        ("tree/dark", {}, "has no labels"),
        ("tree", {"labels": "none.csv"}, "does not exist"),
    ],
)
def test_data_that_cannot_serve_is_refused(
    data: str, options: dict[str, str], words: str, written: Path, settings: Callable[..., DataSettings]
) -> None:
    with pytest.raises(IsograftError, match=words):
        open_data(str(written.parent / data), settings(**options), need_labels=True)


def test_data_without_a_usable_image_is_refused(tmp_path: Path, settings: Callable[..., DataSettings]) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "1.png").touch()
    with pytest.raises(IsograftError, match="none of its 1 images can be used"):
        open_data(str(tmp_path / "bad"), settings(), need_labels=False)


def test_the_default_cache_is_in_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(os.environ, "HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / ".cache" / "isograft"
