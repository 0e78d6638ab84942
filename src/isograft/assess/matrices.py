"""Figures of many confusion matrices at once: the one definition of each, for a score, its intervals and its jackknife.

A matrix has the true classes as rows and the predicted ones as columns, counts or sums of weights. Undefined figures are NaN. Means run
over the classes that have images; a class that is present but never predicted counts with precision 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Matrices = npt.NDArray[Any]


def by_group(labels: Ints, predicted: Ints, owner: Ints, groups: int, classes: int) -> Ints:
    """Confusion matrix of every group: int64 (G, K, K).

    Args:
        labels: int64 (N,) true classes.
        predicted: int64 (N,).
        owner: int64 (N,) number of each image's group.
        groups: G.
        classes: K.
    """
    flat = (owner * classes + labels) * classes + predicted
    return np.bincount(flat, minlength=groups * classes * classes).reshape(groups, classes, classes).astype(np.int64)


def ratio(above: npt.NDArray[Any], below: npt.NDArray[Any]) -> Floats:
    """Divide; NaN where there is nothing to divide by."""
    out = np.full(np.broadcast_shapes(above.shape, below.shape), np.nan)
    np.divide(above, below, out=out, where=below > 0)
    return out


def present_mean(values: Floats, present: npt.NDArray[np.bool_]) -> Floats:
    """Mean over the classes with images: (R, K) to (R,); NaN where a present class has none."""
    return ratio(np.where(present, values, 0.0).sum(axis=1), present.sum(axis=1))


def true_images(matrices: Matrices) -> Floats:
    """Images of each true class: (R, K, K) to (R, K)."""
    total: Floats = matrices.sum(axis=2)
    return total


def _hits(matrices: Matrices) -> Floats:
    diagonal: Floats = np.diagonal(matrices, axis1=1, axis2=2)
    return diagonal


def recalls(matrices: Matrices) -> Floats:
    """Share of each true class that was called so: (R, K, K) to (R, K)."""
    return ratio(_hits(matrices), matrices.sum(axis=2))


def precisions(matrices: Matrices) -> Floats:
    """Share of the images called a class that are of it."""
    return ratio(_hits(matrices), matrices.sum(axis=1))


def f1_scores(matrices: Matrices) -> Floats:
    """Harmonic mean of precision and recall of each class; NaN for a class without an image."""
    true = matrices.sum(axis=2)
    return np.where(true > 0, ratio(2 * _hits(matrices), true + matrices.sum(axis=1)), np.nan)


def specificities(matrices: Matrices) -> Floats:
    """Share of the images of other classes that were not called this one."""
    true = matrices.sum(axis=2)
    others = true.sum(axis=1, keepdims=True) - true
    alarms = matrices.sum(axis=1) - _hits(matrices)
    return 1 - ratio(alarms, others)


def _accuracy(matrices: Matrices) -> Floats:
    return ratio(np.trace(matrices, axis1=1, axis2=2), matrices.sum(axis=(1, 2)))


def _mean_of(figure: Callable[[Matrices], Floats]) -> Callable[[Matrices], Floats]:
    return lambda matrices: present_mean(figure(matrices), true_images(matrices) > 0)


def _precision(matrices: Matrices) -> Floats:
    return present_mean(np.nan_to_num(precisions(matrices)), true_images(matrices) > 0)


def _mcc(matrices: Matrices) -> Floats:
    """Matthews correlation (Gorodkin 2004); 0 when all predictions are one class, NaN when all labels are."""
    m = matrices.astype(np.float64)
    true, called, total = m.sum(axis=2), m.sum(axis=1), m.sum(axis=(1, 2))
    spread_true, spread_called = total**2 - (true**2).sum(axis=1), total**2 - (called**2).sum(axis=1)
    agreement = np.trace(m, axis1=1, axis2=2) * total - (true * called).sum(axis=1)
    value = ratio(agreement, np.sqrt(np.maximum(spread_true * spread_called, 0)))
    return np.where(spread_true == 0, np.nan, np.where(spread_called == 0, 0.0, value))


def _kappa(matrices: Matrices) -> Floats:
    """Cohen's kappa: agreement beyond chance; NaN when all labels are one class."""
    m = matrices.astype(np.float64)
    true, called, total = m.sum(axis=2), m.sum(axis=1), m.sum(axis=(1, 2))
    chance = ratio((true * called).sum(axis=1), total**2)
    several = (true > 0).sum(axis=1) > 1
    return np.where(several, ratio(_accuracy(m) - chance, 1 - chance), np.nan)


OVERALL: dict[str, Callable[[Matrices], Floats]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _mean_of(recalls),
    "macro_precision": _precision,
    "macro_recall": _mean_of(recalls),
    "macro_f1": _mean_of(f1_scores),
    "macro_specificity": _mean_of(specificities),
    "mcc": _mcc,
    "kappa": _kappa,
}
"""Figures of a whole matrix: (R, K, K) to (R,)."""

PER_CLASS: dict[str, Callable[[Matrices], Floats]] = {
    "precision": precisions,
    "recall": recalls,
    "f1": f1_scores,
    "specificity": specificities,
}
"""Figures of each class against the rest: (R, K, K) to (R, K)."""
