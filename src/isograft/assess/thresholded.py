"""Figures at a threshold that was chosen elsewhere, with intervals over patients."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from isograft.assess.intervals import FEWEST_GROUPS, LEVEL, RESAMPLES, Resampling, bca, exact
from isograft.assess.operating import counts_at, known_ratios, ratios

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_PROPORTIONS = {"sensitivity": ("tp", "fn"), "specificity": ("tn", "fp"), "ppv": ("tp", "fp"), "npv": ("tn", "fn")}


def figures_at(scores: Floats, positive: Mask, threshold: float, groups: npt.NDArray[Any], seed: int = 0) -> dict[str, Any]:
    """What a threshold does on labeled images.

    Args:
        scores: float64 (N,), an image is called positive when its score is at least the threshold.
        positive: bool (N,).
        threshold: The threshold.
        groups: (N,) patient or lesion of each image.
        seed: Seed of the bootstrap.

    Returns:
        `test`: counts `tp`, `fp`, `tn`, `fn`, `sensitivity`, `specificity`, `ppv`, `npv`, `lr_positive`, `lr_negative`, None where
        undefined; `intervals`: 95 % intervals by the same names; `reasons`: why a figure or its interval is missing, by the same names.
        Proportions of ungrouped images get Clopper and Pearson's interval, likelihood ratios that of Simel et al. (1991,
        doi:10.1016/0895-4356(91)90128-V) on the log scale; of grouped images all get a bootstrap over groups, stratified by class, and
        where nothing varies Clopper and Pearson's with groups as units. Fewer than 8 groups behind a figure, and there is none.
    """
    counts: dict[str, Any] = dict(counts_at(scores, positive, threshold))
    values = known_ratios(counts)
    drawn = Resampling.of(positive.astype(np.int64), groups, 2)
    called = scores >= threshold
    cells = (called & positive, called & ~positive, ~called & ~positive, ~called & positive)
    by_group = np.column_stack([np.bincount(drawn.owner[cell], minlength=len(drawn.stratum)) for cell in cells]).astype(np.float64)
    samples, left_out = {}, {}
    if not drawn.alone:
        samples, left_out = (ratios(*(weights @ by_group).T) for weights in (drawn.bootstrap(RESAMPLES, seed), drawn.jackknife()))
    intervals: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for name, value in values.items():
        if value is None:
            reasons[name] = _undefined(name, **counts)
            continue
        behind = [len(np.unique(drawn.owner[mask])) for mask in _behind(name, positive, called)]
        if drawn.alone and name in _PROPORTIONS:
            hits, misses = (counts[key] for key in _PROPORTIONS[name])
            intervals[name] = exact(hits, hits + misses)
            continue
        if min(behind) < FEWEST_GROUPS:
            reasons[name] = f"{min(behind)} groups (patients or lesions) are behind it, and below {FEWEST_GROUPS} chance cannot be told"
            continue
        interval = log_interval(name, **counts) if drawn.alone else bca(value, samples[name], left_out[name], min(behind) - 1)
        if interval is None and name in _PROPORTIONS and value in (0, 1):
            interval = exact(behind[0] if value > 0 else 0, behind[0])
        if interval is None and name in _PROPORTIONS:
            reasons[name] = "it is the same however the groups are drawn, which is no certainty but too little variety in the test"
        elif interval is None:
            reasons[name] = "one of its two shares is 0 or close to it, so that the ratio has no bound"
        else:
            intervals[name] = interval
    return {"test": counts | values, "intervals": intervals, "reasons": reasons}


def log_interval(name: str, tp: int, fp: int, tn: int, fn: int) -> dict[str, Any] | None:
    """A likelihood ratio's interval over independent images: exp(ln (a / m) / (b / n) +- z sqrt(1/a - 1/m + 1/b - 1/n)).

    Args:
        name: `lr_positive` (a, b are the true and false positives) or `lr_negative` (the false and true negatives).
        tp: Images of the class called positive.
        fp: Others called positive.
        tn: Others called negative.
        fn: Images of the class called negative.

    Returns:
        `low`, `high`, `method`; None where a or b is 0.
    """
    above, below = (tp, fp) if name == "lr_positive" else (fn, tn)
    if not above or not below:
        return None
    error = float(norm.ppf((1 + LEVEL) / 2) * np.sqrt(1 / above - 1 / (tp + fn) + 1 / below - 1 / (tn + fp)))
    middle = float(np.log(above / (tp + fn)) - np.log(below / (tn + fp)))
    return {"low": float(np.exp(middle - error)), "high": float(np.exp(middle + error)), "method": "log"}


def _behind(name: str, positive: Mask, called: Mask) -> list[Mask]:
    """The images that a figure is a share of; for a ratio of two shares, both."""
    kinds = {"sensitivity": [positive], "specificity": [~positive], "ppv": [called], "npv": [~called]}
    return kinds.get(name, [positive, ~positive])


def _undefined(name: str, tp: int, fp: int, tn: int, fn: int) -> str:
    """Why a figure of these counts does not exist."""
    ratio = name.startswith("lr_")
    if not tp + fn and (ratio or name == "sensitivity"):
        return "no image of the class was tested"
    if not tn + fp and (ratio or name == "specificity"):
        return "every tested image is of the class"
    if not tp + fp and name in {"ppv", "lr_positive"}:
        return "no image was called positive"
    if not tn + fn and name in {"npv", "lr_negative"}:
        return "every image was called positive"
    return f"{'no' if name == 'lr_positive' else 'every'} image of another class was called positive, so the ratio has no bound"
