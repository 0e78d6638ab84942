from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from isograft.data.manifest import Manifest
from isograft.study.cleaning import cleaned, overlap


def images(hashes: list[int], pixels: list[str], groups: list[str | None]) -> Manifest:
    return Manifest(pl.DataFrame({"perceptual_hash": pl.Series(hashes, dtype=pl.UInt64), "pixel_hash": pixels, "group": groups}), Path("m"))


def test_images_of_one_colour_are_compared_by_their_pixels_alone() -> None:
    pool = images([0, 0], ["a", "b"], [None, None])
    assert overlap(pool, images([0], ["b"], [None])).tolist() == [False, True]


def test_a_patient_of_the_test_is_removed_with_all_images() -> None:
    far = [1 << 40, 0xFFFF << 20, 0xABCDEF << 8]
    pool = images(far, ["a", "b", "c"], ["p1", "p2", None])
    assert overlap(pool, images([0x1234567], ["z"], ["p2"])).tolist() == [False, True, False]
    assert overlap(pool, images([0x1234567], ["z"], [None])).tolist() == [False, False, False]


def test_a_patient_whom_the_pool_names_differently_is_removed_with_all_images() -> None:
    pool = images([1 << 40, 0xFFFF << 20, 0xABCDEF << 8], ["a", "b", "c"], ["q1", "q1", "q2"])
    for copy in (images([0], ["a"], ["t9"]), images([1 << 40], ["z"], [None])):  # the same pixels, the same look
        assert overlap(pool, copy).tolist() == [True, True, False]
        assert overlap(pool, copy, grouped=False).tolist() == [True, False, False]


def test_images_of_no_known_patient_are_no_group() -> None:
    pool = images([1 << 40, 0xFFFF << 20], ["a", "b"], [None, None])
    assert overlap(pool, images([0], ["a"], [None])).tolist() == [True, False]


def test_little_overlap_is_removed_for_all_repeats_and_much_only_for_the_one_at_hand() -> None:
    pool = images([0] * 100, [str(number) for number in range(100)], [None] * 100)
    tested = images([0], ["0"], [None])
    few = np.arange(100) < 5
    many = np.arange(100) < 6
    assert (cleaned(pool, few, tested).removed, len(cleaned(pool, few, tested).manifest)) == (5, 95)
    assert (cleaned(pool, many, tested).removed, len(cleaned(pool, many, tested).manifest)) == (1, 99)
