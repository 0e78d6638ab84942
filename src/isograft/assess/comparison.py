"""Two models on the same images: is the difference more than chance?

Differences are paired: both models are resampled with the same groups. Areas under ROC curves are compared by DeLong, DeLong and
Clarke-Pearson (1988, doi:10.2307/2531595), over groups by Obuchowski (1997, doi:10.2307/2533958), which is the former where each group has
one image. Right and wrong answers are compared by McNemar's exact test (1947), over groups by the same argument: a model that is no better
wins a group as likely as it loses it. All other figures are compared by exchanging the two models' answers to random groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binom, norm, rankdata

from isograft.assess.intervals import RESAMPLES, Resampling, bca
from isograft.assess.weighted import WeightedFigures

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

EXCHANGES = 1000
EXCHANGE = "exchange of answers"
_ROUNDING = 1e-12

COMPARED = ("accuracy", "balanced_accuracy", "macro_f1", "macro_roc_auc", "mcc", "brier", "log_loss")


def compare(
    labels: Ints,
    p_a: Floats,
    p_b: Floats,
    classes: Sequence[str],
    groups: npt.NDArray[Any] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Compare two models, figure by figure.

    Args:
        labels: int64 (N,) true classes.
        p_a: float64 (N, K) probabilities of the first model.
        p_b: Those of the second, on the same images.
        classes: K class names.
        groups: (N,) patient or lesion of each image; None takes each image as its own.
        seed: Seed of the draws.
        resamples: Number of draws.

    Returns:
        `figures` (name to `a`, `b`, `difference` = a - b, its interval `low`, `high`, `method` or None, `p`, `p_holm` and `test`, None
        where there is no test) and `family`, a sentence on which p-values were adjusted together (Holm 1979).
    """
    drawn = Resampling.of(labels, groups, len(classes))
    both = [WeightedFigures(labels, p, classes, drawn.owner) for p in (p_a, p_b)]
    names, ones = both[0].names, np.ones((1, both[0].groups))
    points = [figures(ones)[0] for figures in both]
    weights, omitted = drawn.bootstrap(resamples, seed), drawn.jackknife()
    samples, left_out = (both[0](w) - both[1](w) for w in (weights, omitted))
    wanted = [*COMPARED, *(f"per_class.{name}.roc_auc" for name in classes)]
    tests = _tests(labels, p_a, p_b, classes, drawn)
    exchanged = _exchange_p(labels, p_a, p_b, classes, drawn, seed)
    tests |= {name: (exchanged[names.index(name)], EXCHANGE) for name in COMPARED if name not in tests}
    adjusted = dict(zip(tests, holm([p for p, _ in tests.values()]), strict=True))
    freedom = len(drawn.stratum) - len(np.unique(drawn.stratum))
    found: dict[str, Any] = {}
    for name in wanted:
        column = names.index(name)
        a, b = (float(point[column]) for point in points)
        if np.isnan(a) or np.isnan(b):
            continue
        interval = bca(a - b, samples[:, column], left_out[:, column], freedom) or {"low": None, "high": None, "method": None}
        p, test = tests.get(name, (None, None))
        found[name] = {"a": a, "b": b, "difference": a - b, **interval, "p": p, "p_holm": adjusted.get(name), "test": test}
    count = sum(p is not None for p, _ in tests.values())
    family = f"the p-values of all {count} tests are adjusted together by Holm's method"
    return {"figures": found, "family": family}


def _tests(labels: Ints, p_a: Floats, p_b: Floats, classes: Sequence[str], drawn: Resampling) -> dict[str, tuple[float | None, str]]:
    over = "" if drawn.alone else " over groups"
    right = [p.argmax(axis=1) == labels for p in (p_a, p_b)]
    tests: dict[str, tuple[float | None, str]] = {"accuracy": (mcnemar(right[0], right[1], drawn.owner), f"McNemar{over}, exact")}
    for k, name in enumerate(classes):
        positive = labels == k
        if positive.any() and not positive.all():
            tests[f"per_class.{name}.roc_auc"] = (delong(positive, p_a[:, k], p_b[:, k], drawn.owner).p, f"DeLong{over}")
    return tests


def _exchange_p(labels: Ints, p_a: Floats, p_b: Floats, classes: Sequence[str], drawn: Resampling, seed: int) -> list[float | None]:
    """P-values of the difference of every figure, by exchanging the answers of random groups (Noreen 1989; for F-scores Yeh 2000).

    Were the models alike, it would not matter which of them gave which answers to a group. The observed order counts as one of the ways.

    Returns:
        One for every figure of `WeightedFigures`, in its order; None where the figure does not exist.
    """
    groups = len(drawn.stratum)
    both = WeightedFigures(np.r_[labels, labels], np.r_[p_a, p_b], classes, np.r_[drawn.owner, drawn.owner + groups])
    kept = np.random.default_rng(seed).integers(0, 2, (EXCHANGES, groups)).astype(np.float32)
    kept[0] = 1
    differences = np.abs(both(np.hstack([kept, 1 - kept])) - both(np.hstack([1 - kept, kept])))
    reached = (differences >= differences[0] - _ROUNDING).mean(axis=0)
    return [None if np.isnan(observed) else float(p) for p, observed in zip(reached, differences[0], strict=True)]


class Delong:
    """Two areas under ROC curves on the same images.

    Attributes:
        areas: float64 (2,).
        covariance: float64 (2, 2), of the two areas; NaN with fewer than two groups of either kind.
        p: Two-sided p-value of their equality; None where the difference has no variance.
    """

    def __init__(self, areas: Floats, covariance: Floats) -> None:
        self.areas, self.covariance = areas, covariance
        variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
        gap = float(areas[0] - areas[1])
        sound = np.isfinite(variance) and variance > 1e-18
        self.p = float(2 * norm.sf(abs(gap) / np.sqrt(variance))) if sound else None


def delong(positive: Mask, scores_a: Floats, scores_b: Floats, owner: Ints) -> Delong:
    """Areas of two scores and their covariance, from what each image and group contributes.

    Args:
        positive: bool (N,), with both kinds.
        scores_a: float64 (N,), higher means more likely positive.
        scores_b: The same of the other model.
        owner: int64 (N,) number of each image's group.
    """
    m, n = int(positive.sum()), int((~positive).sum())
    groups = int(owner.max()) + 1
    areas, of_positives, of_negatives = np.empty(2), np.zeros((groups, 2)), np.zeros((groups, 2))
    sizes = [np.bincount(owner[kind], minlength=groups) for kind in (positive, ~positive)]
    for column, scores in enumerate((scores_a, scores_b)):
        ranks = rankdata(scores)
        won = (ranks[positive] - rankdata(scores[positive])) / n  # share of the negatives below each positive
        lost = 1 - (ranks[~positive] - rankdata(scores[~positive])) / m  # share of the positives above each negative
        areas[column] = won.mean()
        of_positives[:, column] = np.bincount(owner[positive], weights=won, minlength=groups) - sizes[0] * areas[column]
        of_negatives[:, column] = np.bincount(owner[~positive], weights=lost, minlength=groups) - sizes[1] * areas[column]
    with_positives, with_negatives, every = int((sizes[0] > 0).sum()), int((sizes[1] > 0).sum()), int(((sizes[0] + sizes[1]) > 0).sum())
    if min(with_positives, with_negatives) < 2:
        return Delong(areas, np.full((2, 2), np.nan))
    s10 = of_positives.T @ of_positives * with_positives / ((with_positives - 1) * m)
    s01 = of_negatives.T @ of_negatives * with_negatives / ((with_negatives - 1) * n)
    s11 = of_positives.T @ of_negatives * every / (every - 1)
    return Delong(areas, s10 / m + s01 / n + (s11 + s11.T) / (m * n))


def mcnemar(right_a: Mask, right_b: Mask, owner: Ints) -> float:
    """Exact two-sided p-value of two models being right equally often.

    Each group's difference (images that only a gets right less those that only b does) keeps its size and changes its sign with
    probability 1/2. The distribution of their sum is computed exactly; with one image per group it is the binomial one of McNemar's exact
    test.

    Args:
        right_a: bool (N,), whether the first model is right.
        right_b: bool (N,), whether the second is.
        owner: int64 (N,) number of each image's group.
    """
    difference = np.bincount(owner, weights=right_a.astype(np.float64) - right_b).round().astype(np.int64)
    sizes, counts = np.unique(np.abs(difference[difference != 0]), return_counts=True)
    distribution = np.ones(1)
    for size, count in zip(sizes, counts, strict=True):
        step = np.zeros(2 * size * count + 1)
        step[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
        distribution = np.convolve(distribution, step)
    middle, total = len(distribution) // 2, abs(int(difference.sum()))
    return 1.0 if total == 0 else float(min(1.0, 2 * distribution[middle + total :].sum()))


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values of a family of comparisons (Holm 1979); None stays None and counts as no comparison."""
    known = [(value, place) for place, value in enumerate(p) if value is not None]
    adjusted: list[float | None] = [None] * len(p)
    highest = 0.0
    for rank, (value, place) in enumerate(sorted(known)):
        highest = max(highest, min(1.0, value * (len(known) - rank)))
        adjusted[place] = highest
    return adjusted
