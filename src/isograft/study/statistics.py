"""Means and differences over repeats, with intervals that count how few patients were tested and how few splits were drawn.

The splits of a study are drawn from one finite set of labeled groups, so its repeats share test and training groups and are not
independent: the usual t-interval over repeats is far too narrow. docs/explanation/statistics.md derives what is done instead, and
shows its measured coverage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]

LEVEL = 0.95
FEWEST_REPEATS = 3
FEWEST_GROUPS = 8
ROUNDING = 1e-12
TRAINED = 1.5
"""Variance that all repeats share because they train on the same groups, as a multiple of that from testing the same groups.

It cannot be measured without training on other labeled sets; in the simulated studies of benchmarks/study_coverage.py it is 0.5 to 1.7.
"""


@dataclass(frozen=True)
class Estimate:
    """A mean over repeats.

    Attributes:
        value: The mean; NaN without a repeat.
        repeats: How many repeats it rests on.
        groups: How many groups were tested.
        error: Standard error; None where it cannot be told.
        freedom: Degrees of freedom of the t distribution that the interval is taken from.
        low: Lower end of the interval of `LEVEL`.
        high: Its upper end.
        p: Two-sided p-value of the expected value being zero.
    """

    value: float
    repeats: int
    groups: int
    error: float | None = None
    freedom: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None


@dataclass(frozen=True)
class Spread:
    """What the repeats differ by, taken apart.

    Attributes:
        between: Sample variance of the repeats' values: who was tested, who was trained on and the seed, but not what all repeats share.
        tested: Variance of the mean that comes from who was tested.
        shared: The part of it that all repeats have in common, as they test the same groups: more repeats do not lower it.
        expected: The variance between repeats that the choice of test groups alone would give.
        freedom: Effective number of independent groups behind `tested`, less one.
    """

    between: float
    tested: float
    shared: float
    expected: float
    freedom: float


def estimate(values: npt.ArrayLike, shares: npt.ArrayLike) -> Estimate:
    """Estimate an expected value from overlapping repeats.

    Args:
        values: float (R,), one value per repeat: a figure, or a difference of figures of arms with the same rows.
        shares: float (R, G), what each of the G tested groups adds to its deviation (`Influence.shares`); 0 where a repeat did not test it.

    Returns:
        The mean with interval and p-value; without them where there are fewer than `FEWEST_REPEATS` repeats or `FEWEST_GROUPS` tested
        groups, where a figure is undefined without some group, and where nothing varies though the mean is not zero: a perfect score
        on few patients is no certainty. Answers that are all the same differ by zero for certain.
    """
    x, s = (_exact(np.asarray(given, dtype=np.float64)) for given in (values, shares))
    groups = s.shape[1]
    value = float(x.mean()) if len(x) else float("nan")
    if len(x) < FEWEST_REPEATS or groups < FEWEST_GROUPS or not np.isfinite(x).all() or not np.isfinite(s).all():
        return Estimate(value, len(x), groups)
    error, freedom = standard_error(spread(x, s), len(x))
    if error == 0:
        return Estimate(value, len(x), groups, 0.0, freedom, 0.0, 0.0, 1.0) if value == 0 else Estimate(value, len(x), groups)
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    p = 2 * float(stats.t.sf(abs(value) / error, freedom))
    return Estimate(value, len(x), groups, error, freedom, value - half, value + half, p)


def _exact(numbers: Floats) -> Floats:
    """Zero where only rounding is left: figures are ratios of counts, and arms with the same answers have no difference at all."""
    return np.where(np.abs(numbers) < ROUNDING, 0.0, numbers)


def spread(values: Floats, shares: Floats) -> Spread:
    """Take the variance between repeats apart: values (R,), shares (R, G)."""
    repeats = len(values)
    covariances = shares @ shares.T  # of the values of two repeats, through the groups that both test
    own, total = float(np.trace(covariances)), float(covariances.sum())
    shared = (total - own) / (repeats * (repeats - 1))
    return Spread(
        between=float(values.var(ddof=1)),
        tested=total / repeats**2,
        shared=max(0.0, shared),
        expected=own / repeats - shared,
        freedom=_effective(shares.sum(axis=0)),
    )


def standard_error(spread: Spread, repeats: int) -> tuple[float, float]:
    """Standard error of a mean over repeats, and its degrees of freedom (Welch-Satterthwaite).

    What the repeats differ by beyond the choice of test groups (training labels, seed) shrinks with their number; what they share does not.
    """
    of_groups = spread.tested + TRAINED * spread.shared
    variance = of_groups + max(0.0, spread.between - spread.expected) / repeats
    if variance <= 0:
        return 0.0, spread.freedom
    doubt = of_groups**2 / spread.freedom + (spread.between / repeats) ** 2 / (repeats - 1)
    return float(np.sqrt(variance)), max(1.0, float(variance**2 / doubt))


def _effective(influence: Floats) -> float:
    """Degrees of freedom of a sum of squares over groups: G - 1 for equal spread, fewer when few groups carry it."""
    carried = influence[influence != 0]
    if len(carried) < 2:
        return 1.0
    squares = float((carried**2).sum())
    uneven = float((carried**4).sum()) - squares**2 / len(carried)
    return float(np.clip(2 * squares**2 / uneven, 1.0, len(carried) - 1)) if uneven > 0 else float(len(carried) - 1)
