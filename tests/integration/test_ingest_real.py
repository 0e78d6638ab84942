"""Ingest on real images: a small sample of each set, linked into a folder of its own."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

from isograft.data.hashing import perceptual_distance, perceptual_hash, pixel_hash
from isograft.data.ingest import ingest
from isograft.data.manifest import Manifest
from isograft.data.readers import read_image, to_rgb8
from isograft.data.source import open_data
from isograft.settings import DataSettings, IngestSettings

pytestmark = pytest.mark.real


def sample(table: Path, column: str, step: int, folder: Path, name: str = "{}") -> tuple[Path, Path]:
    """Every step-th row of a table, with links to its images: (folder, table)."""
    folder.mkdir()
    with table.open(newline="") as stream:
        reader = csv.DictReader(stream)
        rows = list(itertools.islice(reader, 0, None, step))
    with (folder.parent / "t.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, reader.fieldnames or [])
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        relative = name.format(row[column])
        (folder / relative).parent.mkdir(parents=True, exist_ok=True)
        (folder / relative).symlink_to(table.parent / relative)
    return folder, folder.parent / "t.csv"


def run(out: Path, source: Path, **options: object) -> Manifest:
    return ingest(IngestSettings.model_validate({"source": (source,), "out": out, **options}))


def test_dermoscopy_with_lesions_and_clinics_from_the_csv(real_data: Path, tmp_path: Path) -> None:
    folder, table = sample(real_data / "skin" / "ham10000" / "metadata.csv", "image_id", 100, tmp_path / "ham", "images/{}.jpg")
    options = {"labels": table, "label_column": "dx", "group_column": "lesion_id", "source_column": "dataset"}
    manifest = run(tmp_path / "all.parquet", folder, **options)
    assert len(manifest.usable()) == len(manifest) == 101
    assert set(zip(manifest.frame["width"], manifest.frame["height"], strict=True)) == {(200, 150)}
    assert manifest.frame["group"].null_count() == 0 and manifest.frame["age"].dtype.is_float()
    pool = run(tmp_path / "pool.parquet", folder, **options, where="dataset != 'rosendahl'", drop_labels=True)
    assert 0 < len(pool) < 101 and pool.classes() == [] and "rosendahl" not in set(pool.frame["source"])
    for row in manifest.frame.head(5).rows(named=True):
        array = read_image(manifest.uri_path(row["uri"]), 10**8).array
        np.testing.assert_array_equal(array[..., ::-1], cv2.imread(str(manifest.uri_path(row["uri"]))))
        assert (pixel_hash(array), perceptual_hash(array)) == (row["pixel_hash"], row["perceptual_hash"])


def test_a_class_tree_of_another_source(real_data: Path, tmp_path: Path) -> None:
    for place in ("nevus", "melanoma"):
        (tmp_path / "uda1" / place).mkdir(parents=True)
        for path in sorted((real_data / "skin" / "uda1" / place).iterdir())[:15]:
            (tmp_path / "uda1" / place / path.name).symlink_to(path)
    opened = open_data(str(tmp_path / "uda1"), DataSettings.model_validate({"cache_dir": tmp_path / "cache"}), need_labels=True)
    assert opened.classes() == ["melanoma", "nevus"] and len(opened) == 30
    hashes = opened.frame["perceptual_hash"].to_list()
    assert min(perceptual_distance(a, b) for place, a in enumerate(hashes) for b in hashes[:place]) >= 6
    for path, known in zip(opened.locate()[::6], hashes[::6], strict=True):
        array = to_rgb8(read_image(path, 10**8).array)
        coded = cv2.imdecode(cv2.imencode(".jpg", array[:, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR)
        small = cv2.resize(coded, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
        assert perceptual_distance(known, perceptual_hash(small)) <= 5  # mirrored, recompressed and shrunk


def test_equal_names_in_two_class_folders_with_source_images(real_data: Path, tmp_path: Path) -> None:
    folder, table = sample(real_data / "foot" / "patches.csv", "file", 25, tmp_path / "foot")
    manifest = run(tmp_path / "m.parquet", folder, labels=table, group_column="source_image")
    assert manifest.classes() == ["skin", "ulcer"] and len(manifest.usable()) == 64
    assert all(path.parent.name == label for path, label in zip(manifest.locate(), manifest.labels(), strict=True))


def test_small_nuclei_of_which_a_part_has_labels(real_data: Path, tmp_path: Path) -> None:
    folder, table = sample(real_data / "histology" / "crc_nuclei" / "labels.csv", "file", 200, tmp_path / "nuclei", "images/{}")
    manifest = run(tmp_path / "m.parquet", folder, labels=table, label_column="cell_type", group_column="patient")
    assert len(manifest.usable()) == 102 and set(manifest.frame["width"]) == {27}
    labeled = manifest.frame["label"].is_not_null()
    assert set(manifest.frame["part"].filter(labeled)) == {"main"} and set(manifest.frame["part"].filter(~labeled)) == {"extra"}
