"""Near-duplicates: found by hash, decided by look, and kept together by splits."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import polars as pl
from tests.unit.data.test_look import encoded, lesion

import isograft
from isograft.data.duplicates import bound_groups, copies_of, near_duplicates
from isograft.data.manifest import Manifest


def frame(*rows: tuple[int, str | None]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema={"perceptual_hash": pl.UInt64, "look": pl.String}, orient="row")


A, FAR = "00" * 32, "f0" * 32
B = "ff" + "00" * 31
HASH, OTHER, THIRD, FOURTH = 0x0F1E2D3C4B5A6978, 0x6D0C91B7E35FA248, 0x93A5C27F108B4DE6, 0x4E82F6193CD5B07A


def pairs(ones: pl.DataFrame, others: pl.DataFrame | None = None) -> set[tuple[int, int]]:
    return {(int(r), int(c)) for rows, columns in near_duplicates(ones, others) for r, c in zip(rows, columns, strict=True)}


def test_a_near_hash_needs_the_same_look() -> None:
    assert pairs(frame((HASH, A)), frame((HASH ^ 5, B), (HASH ^ 5, FAR), (HASH, A))) == {(0, 0), (0, 2)}


def test_without_a_look_only_the_same_hash_counts() -> None:
    assert pairs(frame((HASH, None), (HASH ^ 1, A)), frame((HASH, None))) == {(0, 0)}
    assert pairs(frame((HASH, A)).drop("look"), frame((HASH, A), (HASH ^ 1, A))) == {(0, 0)}


def test_within_one_table_each_pair_comes_once_and_no_row_with_itself() -> None:
    assert pairs(frame((HASH, A), (OTHER, FAR), (HASH ^ 3, A))) == {(0, 2)}


def test_the_first_copy_is_named_and_others_are_minus_one() -> None:
    others = frame((OTHER, FAR), (HASH ^ 1, A), (HASH, A))
    assert copies_of(frame((HASH, A), (0, A), (THIRD, A)), others).tolist() == [1, -1, -1]


def test_groups_that_share_a_picture_are_joined_through_pixels_and_through_looks() -> None:
    table = frame((HASH, A), (HASH ^ 1, A), (OTHER, FAR), (THIRD, B), (FOURTH, FAR)).with_columns(
        group=pl.Series(["p1", "p2", "p3", "p4", None]), pixel_hash=pl.Series(["a", "b", "c", "c", "d"]), uri=pl.Series(list("vwxyz"))
    )
    groups = bound_groups(Manifest(table))
    assert groups[:4].tolist() == ["p1", "p1", "p3", "p3"] and groups[4] == "image:d"


def test_ingest_writes_looks_by_which_a_recompressed_copy_is_found(tmp_path: Path) -> None:
    for number in range(5):
        cv2.imwrite(str(tmp_path / f"{number}.png"), lesion(number))
    cv2.imwrite(str(tmp_path / "copy.jpg"), encoded(cv2.rotate(lesion(3), cv2.ROTATE_90_CLOCKWISE), 60))
    table = isograft.ingest([tmp_path], out=tmp_path / "m.parquet").frame
    found = {tuple(table["uri"][list(pair)]) for pair in pairs(table)}
    assert found == {("3.png", "copy.jpg")}
    assert all(len(look) == 64 and np.frombuffer(bytes.fromhex(look), np.uint8).size == 32 for look in table["look"])
