"""Finds all pairs of perceptual hashes that differ in few bits, among millions, exactly.

Multi-index hashing (Norouzi, Punjani and Fleet, CVPR 2012): cut the 64 bits into four words of 16. Of two hashes that differ in at most
seven bits, one word differs in at most one. So for each word the hashes are sorted by it, and each query looks up its own value and the 16
values one bit away.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from isograft.data.hashing import variants

REACH = 7
"""The search is exact for up to so many differing bits."""

Hashes = NDArray[np.uint64]
Rows = NDArray[np.int64]

_WORDS = 4
_VALUES = 1 << 16
_FLIPS = np.array([0, *(1 << bit for bit in range(16))], np.int64)
_CANDIDATES = 1 << 21
_QUERIES = 1 << 13


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
    for word in range(_WORDS):
        yield from _by_word(word, queries, asked, values, owners, distance)


def _by_word(
    word: int, queries: Hashes, asked: Rows, values: Hashes, owners: NDArray[np.int32], distance: int
) -> Iterator[tuple[Rows, Rows, NDArray[np.uint8]]]:
    """The pairs that this word finds, and no earlier one."""
    keys = _word(values, word)
    order = np.argsort(keys, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=_VALUES))])
    values, owners = values[order], owners[order]
    asked = asked[np.argsort(_word(queries[asked], word), kind="stable")]  # neighbours in memory are asked for together
    for begin in range(0, len(asked), _QUERIES):
        rows = asked[begin : begin + _QUERIES]
        found = (_word(queries[rows], word).astype(np.int64)[:, None] ^ _FLIPS).reshape(-1)
        first, count = starts[found], starts[found + 1] - starts[found]
        rows = np.repeat(rows, len(_FLIPS))
        ends = np.cumsum(count)
        cut = 0
        while cut < len(rows):
            stop = max(cut + 1, int(np.searchsorted(ends, (ends[cut - 1] if cut else 0) + _CANDIDATES, side="right")))
            yield from _compare(word, queries, rows[cut:stop], first[cut:stop], count[cut:stop], values, owners, distance)
            cut = stop


def _compare(
    word: int,
    queries: Hashes,
    rows: Rows,
    first: Rows,
    count: Rows,
    values: Hashes,
    owners: NDArray[np.int32],
    distance: int,
) -> Iterator[tuple[Rows, Rows, NDArray[np.uint8]]]:
    """Compare each query with a run of `count` values from `first` on."""
    total = int(count.sum())
    if not total:
        return
    asking = np.repeat(np.arange(len(rows)), count)
    places = np.arange(total) - np.repeat(np.cumsum(count) - count - first, count)
    differing = queries[rows][asking] ^ values[places]
    bits = np.bitwise_count(differing)
    near = np.flatnonzero(bits <= distance)
    for earlier in range(word):
        near = near[np.bitwise_count(_word(differing[near], earlier)) > 1]
    if len(near):
        yield rows[asking[near]], owners[places[near]].astype(np.int64), bits[near]


def _word(hashes: Hashes, word: int) -> NDArray[np.uint16]:
    """One of the four words of 16 bits: columns `word` and `word + 4` of the 8 x 8 bits, so that each has low frequencies and high ones."""
    columns = np.right_shift(hashes, np.uint64(word)) & np.uint64(0x1111111111111111)
    # Gather every fourth bit: 16 bits spread over 64 become 16 bits side by side.
    for shift, mask in ((3, 0x0303030303030303), (6, 0x000F000F000F000F), (12, 0x000000FF000000FF), (24, 0x000000000000FFFF)):
        columns = (columns | (columns >> np.uint64(shift))) & np.uint64(mask)
    return columns.astype(np.uint16)
