"""Copies inside a data set and between two: the same pixels, or the same picture confirmed on its pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isograft.audit.survey import Survey
from isograft.data.crops import CONFIRMED, MOST_COMPARISONS, best_of_pairs, correlations, cropped_copies
from isograft.data.duplicates import near_duplicates
from isograft.lineage import SAME_PICTURE, SAME_PIXELS

COPIES: dict[str, Any] = {"row": pl.Int64, "other": pl.Int64, "reason": pl.String, "correlation": pl.Float32}
"""Rows of the one and of the other data set that show one picture; the correlation of their pixels, 1 where all are equal."""

Rows = NDArray[np.int64]


def copies(one: Survey, other: Survey | None = None) -> pl.DataFrame:
    """Pairs of images that show the same picture: a table of `COPIES`, sorted.

    Of several images with the same pixels the first stands for all: each of the others is paired with it, and near-duplicates are
    looked for among the first ones.

    Args:
        one: A data set.
        other: Another; None looks inside the first, each pair once, the smaller row first.
    """
    mine = one.manifest.frame["pixel_hash"].to_list()
    theirs = mine if other is None else other.manifest.frame["pixel_hash"].to_list()
    first = _first(mine)
    leaders = np.array(sorted(first.values()), np.int64)
    known = first if other is None else _first(theirs)
    if other is None:
        same = [(known[pixels], row) for row, pixels in enumerate(mine) if known[pixels] != row]
    else:
        same = [(row, known[pixels]) for row, pixels in enumerate(mine) if pixels in known]
    equal = pl.DataFrame(same, schema={"row": pl.Int64, "other": pl.Int64}, orient="row")
    equal = equal.with_columns(reason=pl.lit(SAME_PIXELS), correlation=pl.lit(1.0))
    if other is None:
        rows, theirs_rows, values = _near(one, leaders, None, None)
    else:
        rows, theirs_rows, values = _near(one, leaders, other, np.array(sorted(known.values()), np.int64))
        unequal = np.array([mine[row] != theirs[place] for row, place in zip(rows, theirs_rows, strict=True)], dtype=bool)
        rows, theirs_rows, values = rows[unequal], theirs_rows[unequal], values[unequal]
    near = pl.DataFrame({"row": rows, "other": theirs_rows, "correlation": values}).with_columns(reason=pl.lit(SAME_PICTURE))
    columns = [pl.col(name).cast(kind) for name, kind in COPIES.items()]
    return pl.concat([equal.select(columns), near.select(columns)]).sort("row", "other")


def sets_of(rows: int, pairs: pl.DataFrame, pixels: list[str]) -> Rows:
    """Which rows show one picture, directly or by way of others: int64 (N,), a number for each set.

    Args:
        rows: N.
        pairs: Columns `row` and `other`.
        pixels: (N,) hashes of the pixels.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    first = _first(pixels)
    ones = np.concatenate([pairs["row"].to_numpy(), np.arange(rows)])
    others = np.concatenate([pairs["other"].to_numpy(), [first[one] for one in pixels]]).astype(np.int64)
    edges = coo_matrix((np.ones(len(ones)), (ones, others)), shape=(rows, rows))
    return connected_components(edges, directed=False)[1].astype(np.int64)  # type: ignore[no-any-return]


def disagreements(sets: Rows, values: list[str | None], sides: Rows | None = None) -> list[tuple[int, int]]:
    """Two rows of every set whose values differ; one pair for each set.

    Args:
        sets: (N,) number of the set of every row.
        values: (N,) labels or splits; None says nothing.
        sides: (N,) 0 or 1: the two rows must be of different sides; None takes any two.
    """
    side = np.zeros(len(sets), np.int64) if sides is None else sides
    seen: dict[int, dict[tuple[str, int], int]] = {}
    found: dict[int, tuple[int, int]] = {}
    for row, (owner, value) in enumerate(zip(sets.tolist(), values, strict=True)):
        if value is None or owner in found:
            continue
        known = seen.setdefault(owner, {})
        against = [at for (other, where), at in known.items() if other != value and (sides is None or where != side[row])]
        if against:
            found[owner] = (against[0], row)
        known.setdefault((value, int(side[row])), row)
    return list(found.values())


def crops_searched(one: Survey, other: Survey | None = None) -> bool:
    """Whether there are few enough images to look for cropped copies too."""
    return len(one.manifest) * len((other or one).manifest) <= MOST_COMPARISONS


def _near(one: Survey, mine: Rows, other: Survey | None, theirs: Rows | None) -> tuple[Rows, Rows, NDArray[np.float32]]:
    """Pairs that show the same picture, with the correlation of their pixels; rows of the data sets."""
    second, columns_of = (one, mine) if other is None or theirs is None else (other, theirs)
    ours = one.manifest.frame[mine]
    found = list(near_duplicates(ours, None if other is None else second.manifest.frame[columns_of]))
    rows, columns = (np.concatenate([np.empty(0, np.int64), *(pair[side] for pair in found)]) for side in (0, 1))
    pairs = np.unique(np.stack([rows, columns], axis=1), axis=0)
    rows, columns = mine[pairs[:, 0]], columns_of[pairs[:, 1]]
    forth = correlations(one.pictures[rows], second.pictures[columns])
    back = correlations(second.pictures[columns], one.pictures[rows])
    values = np.maximum(forth, back)
    kept = values >= CONFIRMED
    rows, columns, values = rows[kept], columns[kept], values[kept]
    if crops_searched(one, other):
        cut = cropped_copies(one.pictures[mine], None if other is None else second.pictures[columns_of])
        rows, columns = np.concatenate([rows, mine[cut[0]]]), np.concatenate([columns, columns_of[cut[1]]])
        values = np.concatenate([values, cut[2]])
    return best_of_pairs(rows, columns, values)


def _first(hashes: list[str]) -> dict[str, int]:
    """The first row of each hash."""
    return {pixels: row for row, pixels in reversed(list(enumerate(hashes)))}
