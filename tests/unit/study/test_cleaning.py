from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isograft.data.hashing import perceptual_distance
from isograft.data.manifest import Manifest
from isograft.study.cleaning import NEAR, cleaned, near_any, overlap

WORDS = st.lists(st.integers(0, 2**64 - 1), max_size=6)


def images(hashes: list[int], pixels: list[str], groups: list[str | None]) -> Manifest:
    return Manifest(pl.DataFrame({"perceptual_hash": pl.Series(hashes, dtype=pl.UInt64), "pixel_hash": pixels, "group": groups}), Path("m"))


@given(WORDS, WORDS, st.integers(0, 8))
def test_near_duplicates_are_those_of_the_pairwise_distance(ours: list[int], theirs: list[int], distance: int) -> None:
    found = near_any(np.array(ours, np.uint64), np.array(theirs, np.uint64), distance)
    expected = [one != 0 and any(other != 0 and perceptual_distance(one, other) <= distance for other in theirs) for one in ours]
    assert found.tolist() == expected


@pytest.mark.parametrize("flipped", range(NEAR + 2))
def test_copies_with_a_few_changed_bits_are_found_and_others_not(flipped: int) -> None:
    one = np.array([0x0F1E2D3C4B5A6978], np.uint64)
    other = one ^ np.uint64((1 << flipped) - 1) << np.uint64(9)
    assert near_any(one, other).tolist() == [perceptual_distance(int(one[0]), int(other[0])) <= NEAR]


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
