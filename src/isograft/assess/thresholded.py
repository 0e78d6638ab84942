"""Figures at a threshold that was chosen elsewhere, with intervals over patients."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from isograft.assess.intervals import FEWEST_GROUPS, RESAMPLES, Resampling, bca, exact
from isograft.assess.operating import counts_at, ratios

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_PROPORTIONS = {"sensitivity": ("tp", "fn"), "specificity": ("tn", "fp"), "ppv": ("tp", "fp"), "npv": ("tn", "fn")}
_COUNTS = ("tp", "fp", "tn", "fn")


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
        undefined; `intervals`: 95 % intervals by the same names. Proportions of ungrouped images get Clopper and Pearson's; all others a
        bootstrap over groups, stratified by class, and where nothing varies Clopper and Pearson's with groups as units. None are given
        where fewer than 8 groups stand behind a figure.
    """
    counts: dict[str, Any] = dict(counts_at(scores, positive, threshold))
    values = {name: _known(value) for name, value in ratios(*(np.array([float(counts[key])]) for key in _COUNTS)).items()}
    drawn = Resampling.of(positive.astype(np.int64), groups, 2)
    called = scores >= threshold
    cells = (called & positive, called & ~positive, ~called & ~positive, ~called & positive)
    by_group = np.column_stack([np.bincount(drawn.owner[cell], minlength=len(drawn.stratum)) for cell in cells]).astype(np.float64)
    samples = ratios(*(drawn.bootstrap(RESAMPLES, seed).astype(np.float64) @ by_group).T)
    left_out = ratios(*(drawn.jackknife().astype(np.float64) @ by_group).T)
    intervals = {}
    for name, value in values.items():
        behind = [len(np.unique(drawn.owner[mask])) for mask in _behind(name, positive, called)]
        if value is None or (min(behind) < FEWEST_GROUPS and not (drawn.alone and name in _PROPORTIONS)):
            continue
        if name in _PROPORTIONS and drawn.alone:
            hits, misses = (counts[key] for key in _PROPORTIONS[name])
            intervals[name] = exact(hits, hits + misses)
            continue
        interval = bca(value, samples[name], left_out[name])
        if interval is None and name in _PROPORTIONS:
            interval = exact(behind[0] if value > 0 else 0, behind[0])
        if interval is not None:
            intervals[name] = interval
    return {"test": counts | values, "intervals": intervals}


def _behind(name: str, positive: Mask, called: Mask) -> list[Mask]:
    """The images that a figure is a share of; for a ratio of two shares, both."""
    kinds = {"sensitivity": [positive], "specificity": [~positive], "ppv": [called], "npv": [~called]}
    return kinds.get(name, [positive, ~positive])


def _known(value: Floats) -> float | None:
    return None if np.isnan(value[0]) else float(value[0])
