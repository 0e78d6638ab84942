"""Finds all pairs of perceptual hashes that differ in few bits, among millions, exactly.

Multi-index hashing (Norouzi, Punjani and Fleet, CVPR 2012): cut the 64 bits into words. Of two hashes that differ in at most seven bits,
one of four words of 16 differs in at most one, and one of three words of 22 in at most two. So for each word the hashes are sorted by it,
and each query looks up its own value and those one bit (or up to two bits) away. Longer words are asked for more values and have fewer
hashes under each: they pay where many hashes are searched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from isograft.data.hashing import variants

REACH = 7
"""The search is exact for up to so many differing bits."""

Hashes = NDArray[np.uint64]
Rows = NDArray[np.int64]

MANY = 200_000
"""From so many targets on, three long words are faster than four short ones (benchmarks/duplicates.py)."""

_CANDIDATES = 1 << 21
_PROBES = 1 << 17


@dataclass(frozen=True)
class _Words:
    """A way to cut hashes into words, each of every `count`-th bit, so that all have low frequencies and high ones.

    Attributes:
        count: Number of words.
        bits: Bits of the longest.
        radius: Of two hashes that differ in at most `REACH` bits, one word differs in at most so many.
    """

    count: int
    bits: int
    radius: int

    def flips(self) -> Rows:
        """What to change of a word to get all values up to `radius` bits away."""
        return np.array([sum(1 << bit for bit in bits) for size in range(self.radius + 1) for bits in combinations(range(self.bits), size)])

    def of(self, hashes: Hashes, word: int) -> NDArray[np.unsignedinteger]:
        """One word of every hash: its bits side by side, in the smallest type that holds them, as 16 bits are sorted by counting."""
        kind = np.min_scalar_type((1 << self.bits) - 1).type
        found = np.zeros(hashes.shape, kind)
        for place, bit in enumerate(range(word, 64, self.count)):
            found |= ((hashes >> np.uint64(bit)) & np.uint64(1)).astype(kind) << kind(place)
        return found


_FEW_TARGETS = _Words(4, 16, 1)
_MANY_TARGETS = _Words(3, 22, 2)


def within(queries: Hashes, targets: Hashes, distance: int = REACH) -> Iterator[tuple[Rows, Rows, NDArray[np.uint8]]]:
    """All pairs of a query and a target at most `distance` bits apart in their best mutual orientation.

    Hash 0, of images of one colour, is never paired. Memory stays flat in the number of pairs: they come block by block, in no
    particular order. A pair may come several times, at several orientations.

    Args:
        queries: uint64 (N,).
        targets: uint64 (M,).
        distance: Largest number of differing bits, at most `REACH`.

    Yields:
        Rows of queries, rows of targets, and the bits between them.
    """
    if not 0 <= distance <= REACH:
        raise ValueError(f"distance is {distance}; the search is exact up to {REACH} bits only")
    asked = np.flatnonzero(queries)
    told = np.flatnonzero(targets)
    if not len(asked) or not len(told):
        return
    copies = variants(targets[told])
    values = copies.reshape(-1)
    owners = np.tile(told.astype(np.int32), len(copies))
    words = _MANY_TARGETS if len(told) >= MANY else _FEW_TARGETS
    for word in range(words.count):
        yield from _by_word(words, word, queries, asked, values, owners, distance)


def _by_word(
    words: _Words, word: int, queries: Hashes, asked: Rows, values: Hashes, owners: NDArray[np.int32], distance: int
) -> Iterator[tuple[Rows, Rows, NDArray[np.uint8]]]:
    """The pairs that this word finds, and no earlier one."""
    keys, flips = words.of(values, word), words.flips()
    order = np.argsort(keys, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=1 << words.bits))])
    values, owners = values[order], owners[order]
    own = words.of(queries[asked], word)
    inwards = np.argsort(own, kind="stable")  # neighbours in memory are asked for together
    asked, own = asked[inwards], own[inwards].astype(np.int64)
    step = _PROBES // len(flips)
    for begin in range(0, len(asked), step):
        found = (own[begin : begin + step, None] ^ flips).reshape(-1)
        first, count = starts[found], starts[found + 1] - starts[found]
        held = np.flatnonzero(count)
        rows, first, count = asked[begin : begin + step].repeat(len(flips))[held], first[held], count[held]
        ends = np.cumsum(count)
        cut = 0
        while cut < len(rows):
            stop = max(cut + 1, int(np.searchsorted(ends, (ends[cut - 1] if cut else 0) + _CANDIDATES, side="right")))
            near = _compare(queries[rows[cut:stop]], first[cut:stop], count[cut:stop], values, distance)
            for earlier in range(word):
                near = near.where(np.bitwise_count(words.of(near.differing, earlier)) > words.radius)
            if len(near.bits):
                yield rows[cut:stop][near.asking], owners[near.places].astype(np.int64), near.bits
            cut = stop


@dataclass(frozen=True)
class _Near:
    """Pairs that are near enough: int64 which query and which value, uint64 the bits that differ, uint8 how many."""

    asking: Rows
    places: Rows
    differing: Hashes
    bits: NDArray[np.uint8]

    def where(self, kept: NDArray[np.bool_]) -> _Near:
        return _Near(self.asking[kept], self.places[kept], self.differing[kept], self.bits[kept])


def _compare(queries: Hashes, first: Rows, count: Rows, values: Hashes, distance: int) -> _Near:
    """Compare each query with a run of `count` values from `first` on."""
    asking = np.repeat(np.arange(len(queries)), count)
    places = np.arange(len(asking)) + np.repeat(first - (np.cumsum(count) - count), count)
    differing = queries[asking] ^ values[places]
    bits = np.bitwise_count(differing)
    near = np.flatnonzero(bits <= distance)
    return _Near(asking[near], places[near], differing[near], bits[near])
