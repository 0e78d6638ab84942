"""Splits that keep a patient on one side, keep the class balance, and nest label budgets.

A row's place depends only on the seed, its group and its class counts, never on file order, so the same data in
another order gives the same split.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from isograft.errors import IsograftError

Labels = npt.NDArray[np.object_]
Mask = npt.NDArray[np.bool_]


def keyed_rank(keys: Sequence[str], seed: int, purpose: str) -> npt.NDArray[np.uint64]:
    """Return one pseudo-random uint64 per key: a pure function of (seed, purpose, key)."""
    prefix = f"{seed}:{purpose}:".encode()
    digests = [hashlib.blake2b(prefix + str(key).encode(), digest_size=8).digest() for key in keys]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def bind(groups: Labels, ones: npt.NDArray[np.int64], others: npt.NDArray[np.int64]) -> Labels:
    """Join groups that share a picture, so that it never stands on both sides of a split.

    Args:
        groups: (N,) group names.
        ones: (P,) rows.
        others: (P,) for each of them a row that shows the same picture.

    Returns:
        (N,) group names; joined groups carry the alphabetically first of their names.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    names, group_index = np.unique(groups.astype(str), return_inverse=True)
    edges = coo_matrix((np.ones(len(ones)), (group_index[ones], group_index[others])), shape=(len(names), len(names)))
    component = connected_components(edges, directed=False)[1]
    first = {int(number): str(name) for number, name in zip(component[::-1], names[::-1], strict=True)}
    return np.array([first[int(component[index])] for index in group_index], dtype=object)


def hold_out(labels: Labels, groups: Labels, fraction: float, seed: int, purpose: str) -> Mask:
    """Choose whole groups holding about `fraction` of every class.

    Groups are visited in pseudo-random order; a group is taken when that brings the held-out class counts closer to `fraction` of
    the totals (squared relative distance). The only group of a class is never taken. Then single groups are moved where a class is
    missing on a side.

    Every class is left with a group that is not held out. A class of two groups or more is held out too, unless each of its groups is
    the last of some class outside; where no group has images of two classes, that happens to classes of a single group only.

    Args:
        labels: (N,) class names.
        groups: (N,) group names; rows of one group land on one side.
        fraction: Share of each class to hold out, in [0, 1).
        seed: Seed of the order.
        purpose: Keeps independent draws apart (`"test"`, `"val"`).

    Returns:
        (N,) boolean mask of the held-out rows.
    """
    if fraction <= 0:
        return np.zeros(len(labels), dtype=bool)
    classes, label_index = np.unique(labels.astype(str), return_inverse=True)
    names, group_index = np.unique(groups.astype(str), return_inverse=True)
    counts = np.zeros((len(names), len(classes)))
    np.add.at(counts, (group_index, label_index), 1)
    totals = counts.sum(axis=0)
    rank = keyed_rank(list(names), seed, purpose)
    order = np.argsort(rank)
    taken = _fill(counts, totals, fraction, order[~_irreplaceable(counts)[order]])
    _repair(counts, taken, rank)
    return np.asarray(taken[group_index], dtype=bool)


def _irreplaceable(counts: npt.NDArray[np.float64]) -> Mask:
    """Which groups are the only one of some class: bool (G,) for image counts (G, K)."""
    has = counts > 0
    return np.asarray((has & (has.sum(axis=0) == 1)).any(axis=1))


def _fill(counts: npt.NDArray[np.float64], totals: npt.NDArray[np.float64], fraction: float, order: npt.NDArray[np.int64]) -> Mask:
    """Take groups in `order` while each brings the held-out counts closer to the wanted share of every class."""
    wanted, held = totals * fraction, np.zeros(len(totals))
    taken = np.zeros(len(counts), dtype=bool)
    for group in order:
        before = (((held - wanted) / totals) ** 2).sum()
        after = (((held + counts[group] - wanted) / totals) ** 2).sum()
        if after < before:
            taken[group] = True
            held += counts[group]
    return taken


def _repair(counts: npt.NDArray[np.float64], taken: Mask, rank: npt.NDArray[np.uint64]) -> None:
    """Leave every class a group that is not taken, then take one of every class where that leaves all classes another.

    A class all of whose groups are taken gives back the one that is the last taken of the fewest classes, the smallest of those. As
    the second step only takes, and only what can be spared, it undoes nothing, and a class it passes over can never be served later.
    """
    has = counts > 0
    sizes = counts.sum(axis=1)
    for column in range(counts.shape[1]):
        if taken[has[:, column]].all():
            last_of = (has & (has[taken].sum(axis=0) == 1)).sum(axis=1)
            candidates = np.flatnonzero(has[:, column])
            taken[candidates[np.lexsort((rank[candidates], sizes[candidates], last_of[candidates]))[0]]] = False
    for column in range(counts.shape[1]):
        if not taken[has[:, column]].any():
            spare = ~(has & (has[~taken].sum(axis=0) == 1)).any(axis=1)
            candidates = np.flatnonzero(has[:, column] & spare)
            if len(candidates):
                taken[candidates[np.lexsort((rank[candidates], sizes[candidates]))[0]]] = True


def stratified_folds(labels: Labels, groups: Labels, folds: int, seed: int) -> npt.NDArray[np.int64]:
    """Deal rows into folds of about equal size: whole groups, every class in proportion (scikit-learn's StratifiedGroupKFold).

    Args:
        labels: (N,) class names.
        groups: (N,) group names; rows of one group land in one fold.
        folds: Number of folds, 2 or more.
        seed: Seed of the deal.

    Returns:
        int64 (N,) number of the fold of each row; -1 for the groups that no fold gets, as some class has no other group in the other folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    fold = np.zeros(len(labels), dtype=np.int64)
    names, owners = labels.astype(str), groups.astype(str)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with fewer rows than folds
        for number, (_, held) in enumerate(splitter.split(np.zeros(len(labels)), names, owners)):
            fold[held] = number
    for number in range(folds):
        held = fold == number
        lost = set(names[held]) - set(names[~held])
        if lost:
            fold[np.isin(owners, owners[held & np.isin(names, list(lost))])] = -1
    return fold


def label_subset(labels: Labels, groups: Labels, ids: Sequence[str], per_class: int, seed: int) -> npt.NDArray[np.int64]:
    """Draw `per_class` rows of every class; a smaller draw with the same seed is inside a larger one.

    Rows are ordered by (turn of the row within its group, pseudo-random rank of the group), so that different patients come before
    second images of the same patient.

    Args:
        labels: (N,) class names.
        groups: (N,) group names.
        ids: (N,) image ids that order the rows of a group.
        per_class: Rows wanted of every class.
        seed: Seed of the order.

    Returns:
        Row numbers, sorted.

    Raises:
        IsograftError: A class has fewer rows than asked.
    """
    chosen: list[int] = []
    group_rank = keyed_rank([str(group) for group in groups], seed, "budget group")
    row_rank = keyed_rank([str(key) for key in ids], seed, "budget row")
    for name in sorted({str(label) for label in labels}):
        rows = np.flatnonzero(labels.astype(str) == name)
        if len(rows) < per_class:
            raise IsograftError(
                f"class '{name}' has {len(rows)} training labels, fewer than the {per_class} asked for; "
                "lower --labels-per-class or label more images"
            )
        rows = rows[np.argsort(row_rank[rows], kind="stable")]
        turns: dict[str, int] = {}
        turn = np.zeros(len(rows), dtype=np.int64)
        for place, row in enumerate(rows):
            turn[place] = turns.get(str(groups[row]), 0)
            turns[str(groups[row])] = turn[place] + 1
        order = np.lexsort((group_rank[rows], turn))
        chosen.extend(int(row) for row in rows[order][:per_class])
    return np.array(sorted(chosen), dtype=np.int64)
