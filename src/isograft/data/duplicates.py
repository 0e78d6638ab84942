"""Near-duplicates: the same picture once more, re-encoded, resized, mirrored, turned, or a little brighter.

Candidates by perceptual hash, then decided by look: so images that are only alike (dark radiographs, plain skin, lesions in the middle
of a picture) are not merged. Nothing here needs the images themselves, so a leak is found years later from what a model remembers. A
copy with its edges cut off is another picture to both; `isograft.data.crops` finds those from the images.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isograft.data.look import SAME_LOOK, look_distance, words
from isograft.data.manifest import Manifest
from isograft.data.neighbours import within
from isograft.data.splits import bind

Rows = NDArray[np.int64]

_NO_LOOK = "0" * 64


def near_duplicates(ones: pl.DataFrame, others: pl.DataFrame | None = None) -> Iterator[tuple[Rows, Rows]]:
    """Pairs of rows that show the same picture, in blocks; a pair may come more than once.

    Rows of one colour, or without hashes, are never paired. Of rows without a look, written by earlier versions, only those of the very
    same perceptual hash are.

    Args:
        ones: A table with the columns `perceptual_hash` and, where it was kept, `look`.
        others: Another such table; None looks for pairs inside the first, each once, the smaller row first.

    Yields:
        Rows of `ones` and the rows of `others` they are copies of.
    """
    first = _hashes(ones)
    second = first if others is None else _hashes(others)
    looks, known = _looks(ones)
    theirs, also = (looks, known) if others is None else _looks(others)
    for rows, columns, bits in within(first, second):
        near = rows < columns if others is None else np.ones(len(rows), dtype=bool)
        sure = known[rows] & also[columns]
        near &= sure | (bits == 0)
        told = np.flatnonzero(near & sure)
        near[told] = look_distance(looks[rows[told]], theirs[columns[told]]) <= SAME_LOOK
        if near.any():
            yield rows[near], columns[near]


def copies_of(ones: pl.DataFrame, others: pl.DataFrame) -> Rows:
    """For every row of `ones` the first row of `others` that shows the same picture, -1 where there is none: int64 (N,)."""
    nothing = len(others)
    found = np.full(len(ones), nothing, np.int64)
    for rows, columns in near_duplicates(ones, others):
        np.minimum.at(found, rows, columns)
    found[found == nothing] = -1
    return found


def bound_groups(manifest: Manifest) -> NDArray[np.object_]:
    """What must stay on one side of a split, str, object (N,): groups, joined where they share a picture, by its pixels or its look."""
    frame = manifest.frame
    pixels = np.unique(np.array(frame["pixel_hash"].to_list(), dtype=str), return_index=True, return_inverse=True)
    same = (np.arange(len(frame)), pixels[1][pixels[2]])
    pairs = [same, *near_duplicates(frame)]
    return bind(manifest.groups(), np.concatenate([pair[0] for pair in pairs]), np.concatenate([pair[1] for pair in pairs]))


def _hashes(frame: pl.DataFrame) -> NDArray[np.uint64]:
    return frame["perceptual_hash"].fill_null(0).cast(pl.UInt64).to_numpy()


def _looks(frame: pl.DataFrame) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Looks uint64 (N, 4), and for which rows there is one."""
    if "look" not in frame.columns:
        return np.zeros((len(frame), 4), np.uint64), np.zeros(len(frame), dtype=bool)
    column = frame["look"].cast(pl.String)
    return words(column.fill_null(_NO_LOOK).to_list()), column.is_not_null().to_numpy()
