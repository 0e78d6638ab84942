from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from isograft.data import source
from isograft.data.ingest import ingest
from isograft.data.manifest import Manifest
from isograft.data.source import default_cache_dir, open_data
from isograft.errors import IsograftError
from isograft.settings import DataSettings, IngestSettings

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
