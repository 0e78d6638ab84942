"""How many labels the baseline needs to match an arm: read off monotone curves, and said only where the data support it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression

from isograft.study.comparison import Comparison, common_budgets
from isograft.study.runs import Runs
from isograft.study.statistics import LEVEL

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LabelsNeeded:
    """With `budget` labels per class `better` is as good as `worse` with `needed`.

    Attributes:
        better: The arm that is better with the same labels.
        worse: The arm that needs more.
        budget: Label budget of `better`.
        given: Labels per class of that budget.
        needed: Labels per class at which `worse` is as good; None where it is not with the most labels tried.
        low: Lower end of the interval of `needed`.
        high: Upper end; None where it lies beyond the most labels tried.
        most: The most labels per class tried.
    """

    better: str
    worse: str
    budget: int
    given: float
    needed: float | None
    low: float
    high: float | None
    most: float


def labels_needed(runs: Runs, comparison: Comparison, figure: str) -> list[LabelsNeeded]:
    """Read label savings off a comparison, at every budget below the largest where the arms differ beyond chance.

    A budget counts when its difference is significant after Holm's correction over all comparisons and budgets of the task. The
    difference between the better arm at that budget and the other at every larger one is made falling (isotonic regression) and
    interpolated over the logarithm of the labels; where it is zero the two match. The interval holds the labels at which the
    interval of that difference holds zero.
    """
    found = []
    for budget, single in comparison.by_budget.items():
        p = comparison.adjusted_by_budget[budget]
        if p is None or p >= 1 - LEVEL:
            continue
        better, worse = (comparison.arm, comparison.baseline) if single.value > 0 else (comparison.baseline, comparison.arm)
        saving = _saving(runs, better, worse, budget, figure)
        if saving is not None:
            found.append(saving)
    return found


def _saving(runs: Runs, better: str, worse: str, budget: int, figure: str) -> LabelsNeeded | None:
    start = runs.budgets.index(budget)
    usable = set(common_budgets(runs, (better, worse), figure))
    # All labels are no number per class where classes differ in size, so the curve ends before them.
    later = [other for other in runs.budgets[start:] if other in usable and other != 0]
    gaps = [runs.contrast({(better, budget): 1.0, (worse, other): -1.0}, figure) for other in later]
    labels = np.array([runs.labels[runs.budgets.index(other)] for other in later])
    if len(later) < 2 or any(gap.low is None for gap in gaps) or not (np.diff(labels) > 0).all():
        return None
    needed, low, high = (
        crossing(labels, values)
        for values in ([gap.value for gap in gaps], [float(gap.low or 0) for gap in gaps], [float(gap.high or 0) for gap in gaps])
    )
    most = float(labels[-1])
    return LabelsNeeded(better, worse, budget, float(labels[0]), needed, most if low is None else low, high, most)


def crossing(labels: npt.ArrayLike, gaps: Sequence[float]) -> float | None:
    """Labels at which a falling curve through these points is zero.

    Args:
        labels: float (B,), rising and positive.
        gaps: B values; made falling first.

    Returns:
        The labels, by interpolation over their logarithm; the first of `labels` where the curve begins at or below zero; None where it ends
        above zero.
    """
    x = np.log(np.asarray(labels, dtype=np.float64))
    curve = IsotonicRegression(increasing=False).fit_transform(x, np.asarray(gaps, dtype=np.float64))
    if curve[0] <= 0:
        return float(np.exp(x[0]))
    if curve[-1] > 0:
        return None
    after = int(np.argmax(curve <= 0))
    share = curve[after - 1] / (curve[after - 1] - curve[after])
    return float(np.exp(x[after - 1] + share * (x[after] - x[after - 1])))
