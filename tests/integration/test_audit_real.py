"""On real dermoscopy: planted copies are found, other lesions are not taken for copies, and lesions on both sides of a split are told."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

import isograft
from isograft.data.manifest import Manifest

COPIES = 200


def encoded(image: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def cropped(image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """5 to 8 % of each side cut off, from one end, the other or both."""
    spans = []
    for side in image.shape[:2]:
        lost = round(side * draw.uniform(0.05, 0.08))
        first = int(draw.integers(0, lost + 1))
        spans.append(slice(first, side - lost + first))
    return image[spans[0], spans[1]]


def changed(image: np.ndarray, number: int, draw: np.random.Generator) -> np.ndarray:
    """One of five ways to copy an image; the last does several things at once."""
    way = number % 5
    if way == 0:
        return encoded(image, 50)
    if way == 1:
        return encoded(np.rot90(image, 1 + number % 3), 90)
    if way == 2:
        return cv2.resize(image[:, ::-1], None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    if way == 3:
        return cropped(image, draw)
    brighter = np.clip(cropped(np.rot90(image), draw) * 1.1 + 5, 0, 255).astype(np.uint8)
    return encoded(cv2.resize(brighter, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA), 70)


@pytest.fixture(scope="module")
def ham(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    skin = real_data / "skin" / "ham10000"
    out = tmp_path_factory.mktemp("ham") / "ham.parquet"
    isograft.ingest([skin / "images"], labels=skin / "metadata.csv", label_column="dx", group_column="lesion_id", out=out)
    return out


def test_planted_copies_are_found_and_other_lesions_are_not_taken_for_copies(ham: Path, tmp_path: Path) -> None:
    pool = Manifest.read(ham)
    draw = np.random.default_rng(7)
    chosen = draw.choice(len(pool), COPIES, replace=False)
    for number, place in enumerate(np.array(pool.locate())[chosen]):
        copy = changed(cv2.imread(str(place)), number, draw)
        (tmp_path / "test").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "test" / f"{number}.png"), np.ascontiguousarray(copy))
    record = isograft.audit([ham, tmp_path / "test"], cache_dir=tmp_path / "cache")
    (leak,) = [one for one in record["findings"] if one["kind"] == "leak"]
    pairs = {(Path(one["uri"]).name, Path(one["other_uri"]).stem) for one in leak["images"]}
    uris = [file.name for file in pool.locate()]
    groups = dict(zip(uris, pool.frame["group"], strict=True))
    found = sum((uris[row], str(number)) in pairs for number, row in enumerate(chosen))
    assert found >= 0.99 * COPIES
    own = {str(number): groups[uris[row]] for number, row in enumerate(chosen)}
    other_lesions = [pair for pair in pairs if groups[pair[0]] != own[pair[1]]]
    assert len(other_lesions) <= 1  # at most one false pair in a thousand of 10,015 x 200 / 10,015

    (copies,) = [one for one in record["findings"] if one["kind"] == "duplicate" and one["where"] == "ham.parquet"]
    apart = [one for one in copies["images"] if not one["same_group"]]
    assert len(apart) <= 10  # one in a thousand images; those there are look like the same lesion under two names


def test_lesions_on_both_sides_of_a_split_by_image_are_told(ham: Path, tmp_path: Path) -> None:
    pool = Manifest.read(ham)
    vienna = pool.select(pl.col("dataset") == "rosendahl")
    sides = pl.Series("split", np.where(np.random.default_rng(0).random(len(vienna)) < 0.3, "test", "train"))
    Manifest(vienna.frame.with_columns(sides), ham).write(tmp_path / "split.parquet")
    record = isograft.audit([tmp_path / "split.parquet"])
    (overlap,) = [one for one in record["findings"] if one["kind"] == "leak" and "groups" in one["sentence"]]
    both = vienna.frame.with_columns(sides).group_by("group").agg(pl.col("split").n_unique()).filter(pl.col("split") > 1)
    assert overlap["count"] == len(both) > 100 and overlap["level"] == "bad"


def test_ham10000_and_uda1_share_nothing(ham: Path, real_data: Path, tmp_path: Path) -> None:
    record = isograft.audit([ham, real_data / "skin" / "uda1"], cache_dir=tmp_path / "cache", out=tmp_path / "audit")
    assert [one for one in record["findings"] if one["kind"] in {"leak", "conflict"}] == []


def test_white_corners_painted_on_one_class_are_found_by_the_corner_probe(ham: Path, tmp_path: Path) -> None:
    """400 photographs of two diagnoses, as they are and with a white square of 10 px in each corner of the melanomas."""
    pool = Manifest.read(ham)
    for name, marked in (("plain", False), ("marked", True)):
        for diagnosis in ("mel", "nv"):
            chosen = pool.select((pl.col("label") == diagnosis) & (pl.col("dataset") == "rosendahl"))
            (tmp_path / name / diagnosis).mkdir(parents=True)
            for file in chosen.locate()[:200]:
                image = cv2.imread(str(file))
                if marked and diagnosis == "mel":
                    for rows in (slice(10), slice(-10, None)):
                        for columns in (slice(10), slice(-10, None)):
                            image[rows, columns] = 255
                cv2.imwrite(str(tmp_path / name / diagnosis / f"{file.stem}.png"), image)
    told = {}
    for name in ("plain", "marked"):
        record = isograft.audit([tmp_path / name], cache_dir=tmp_path / "cache")
        told[name] = {one["probe"] for one in record["findings"] if one["kind"] == "shortcut" and one["level"] == "warning"}
    assert "corners" in told["marked"] and "corners" not in told["plain"]
