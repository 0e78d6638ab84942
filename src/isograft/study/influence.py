"""How far each tested group (patient, lesion) moves the figures of one run: the delete-one-group jackknife.

The figures are those of `assess.metrics.score`, with the same conventions; a group is left out of a confusion matrix by subtracting its own
matrix, and out of an area under a ROC curve by subtracting the pairs it is part of, so that all groups together cost about as much as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from isograft.assess.matrices import OVERALL, by_group, present_mean, ratio

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FIGURES = ("accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "macro_roc_auc", "mcc")


@dataclass(frozen=True)
class Influence:
    """The figures of a run and what every tested group adds to their deviation.

    Attributes:
        groups: (G,) names of the tested groups, sorted.
        figures: float64 (F,); NaN where undefined.
        shares: float64 (G, F), `sqrt((G - 1) / G) * (mean of the left-out figures - figure without the group)`: the sum of their squares is
            the jackknife variance of the figure. NaN in a whole column where the figure does not exist without some group.
    """

    groups: npt.NDArray[np.str_]
    figures: Floats
    shares: Floats


def influence(truth: npt.ArrayLike, probabilities: npt.ArrayLike, groups: npt.ArrayLike, figures: Sequence[str] = FIGURES) -> Influence:
    """Compute figures of one run, and the share of every group in them.

    Args:
        truth: int (N,) true class of each image, in [0, K).
        probabilities: float (N, K).
        groups: (N,) group of each image.
        figures: Which of `FIGURES`.
    """
    y, p = np.asarray(truth, dtype=np.int64), np.asarray(probabilities, dtype=np.float64)
    names, owner = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    matrices_of = by_group(y, p.argmax(axis=1), owner, len(names), p.shape[1])
    whole = matrices_of.sum(axis=0)
    matrices = np.concatenate([whole[None], whole - matrices_of])
    values = np.empty((len(matrices), len(figures)))
    for column, name in enumerate(figures):
        values[:, column] = _areas(y, p, owner, len(names)) if name == "macro_roc_auc" else OVERALL[name](matrices)
    left_out, count = values[1:], len(names)
    shares = np.sqrt((count - 1) / count) * (left_out.mean(axis=0) - left_out) if count > 1 else np.full_like(left_out, np.nan)
    return Influence(names, values[0], shares)


def _areas(y: Ints, p: Floats, owner: Ints, groups: int) -> Floats:
    """Mean one-against-the-rest area of all images, then without each group: float64 (1 + G,)."""
    areas, present = np.full((1 + groups, p.shape[1]), np.nan), np.zeros((1 + groups, p.shape[1]), dtype=bool)
    for k in range(p.shape[1]):
        positive = y == k
        pos, neg = (_per_group(mask, owner, groups) for mask in (positive, ~positive))
        present[:, k] = pos > 0
        areas[:, k] = ratio(_won_pairs(positive, p[:, k], owner, groups), pos * neg)
    return present_mean(areas, present)


def _per_group(mask: npt.NDArray[np.bool_], owner: Ints, groups: int) -> Floats:
    """Images of all groups, then of all but each: float64 (1 + G,)."""
    counts = np.bincount(owner[mask], minlength=groups).astype(np.float64)
    return np.concatenate([[counts.sum()], counts.sum() - counts])


def _won_pairs(positive: npt.NDArray[np.bool_], scores: Floats, owner: Ints, groups: int) -> Floats:
    """Pairs in which the positive image scores higher (ties count half), of all images, then without each group: float64 (1 + G,)."""
    won = np.zeros(len(scores))
    ranks = rankdata(scores)
    for mask, sign in ((positive, 1.0), (~positive, -1.0)):
        won[mask] = sign * (ranks[mask] - rankdata(scores[mask]))
    won[~positive] += positive.sum()
    total = won[positive].sum()
    own = np.bincount(owner, weights=won, minlength=groups)
    # A pair inside the group was counted from both sides.
    mixed = np.intersect1d(owner[positive], owner[~positive])
    for group in mixed:
        mine = owner == group
        gap = scores[mine & positive][:, None] - scores[mine & ~positive][None, :]
        own[group] -= (gap > 0).sum() + 0.5 * (gap == 0).sum()
    return np.concatenate([[total], total - own])
