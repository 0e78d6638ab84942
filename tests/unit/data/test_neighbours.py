"""The search finds exactly the pairs that comparing everything with everything finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isograft.data import neighbours
from isograft.data.hashing import perceptual_distance, variants
from isograft.data.neighbours import REACH, within

WORDS = st.lists(st.integers(0, 2**64 - 1), max_size=6)


def found(queries: np.ndarray, targets: np.ndarray, distance: int) -> dict[tuple[int, int], int]:
    pairs: dict[tuple[int, int], int] = {}
    for rows, columns, bits in within(queries, targets, distance):
        for row, column, bit in zip(rows.tolist(), columns.tolist(), bits.tolist(), strict=True):
            pairs[row, column] = min(bit, pairs.get((row, column), 64))
    return pairs


@pytest.fixture(params=["few targets", "many targets"], autouse=True)
def words(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever words the hashes are cut into."""
    monkeypatch.setattr(neighbours, "MANY", 10**9 if request.param == "few targets" else 0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(WORDS, WORDS, st.integers(0, REACH))
def test_pairs_are_those_of_the_pairwise_distance(queries: list[int], targets: list[int], distance: int) -> None:
    expected = {
        (row, column): perceptual_distance(one, other)
        for row, one in enumerate(queries)
        for column, other in enumerate(targets)
        if one and other and perceptual_distance(one, other) <= distance
    }
    assert found(np.array(queries, np.uint64), np.array(targets, np.uint64), distance) == expected


def test_every_copy_with_up_to_seven_changed_bits_is_found_among_thousands(rng: np.random.Generator) -> None:
    targets = rng.integers(1, 2**64, 3000, dtype=np.uint64)
    queries = variants(targets)[rng.integers(0, 8, 3000), np.arange(3000)].copy()
    for row in range(3000):
        for bit in rng.choice(64, rng.integers(0, 10), replace=False):
            queries[row] ^= np.uint64(1) << np.uint64(bit)
    distances = np.min([np.bitwise_count(queries[:, None] ^ copies[None]) for copies in variants(targets)], axis=0)
    assert found(queries, targets, REACH) == {
        (int(r), int(c)): int(distances[r, c]) for r, c in zip(*np.nonzero(distances <= REACH), strict=True)
    }


def test_many_equal_hashes_come_in_blocks_and_none_is_lost() -> None:
    same = np.full(1700, 0x0123456789ABCDEF, np.uint64)
    blocks = [len(rows) for rows, _, _ in within(same, same, 0)]
    assert sum(blocks) == 1700**2 and max(blocks) < 1700**2


def test_images_of_one_colour_are_never_paired() -> None:
    assert found(np.zeros(3, np.uint64), np.zeros(2, np.uint64), REACH) == {}


def test_a_distance_beyond_the_reach_is_refused() -> None:
    with pytest.raises(ValueError, match="exact up to 7 bits"):
        next(within(np.ones(1, np.uint64), np.ones(1, np.uint64), 8))
