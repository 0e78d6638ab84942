"""How much of a figure is chance: 95 % intervals that resample patients or lesions, not images.

A stratified bootstrap over groups with the bias-corrected and accelerated ends of Efron (1987, doi:10.1080/01621459.1987.10478410); for
simple proportions of ungrouped images the exact interval of Clopper and Pearson (1934). Where too few groups stand behind a figure there
is none, and a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import beta, norm, t

from isograft.assess.weighted import WeightedFigures

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LEVEL = 0.95
RESAMPLES = 2000
FEWEST_GROUPS = 8
STRATA = "groups are drawn among those of the same most frequent class"

_BLOCKS = 200
_DRAWN = 100  # resamples at a time, so that numbering the draws takes little memory
_UNDEFINED = 0.05  # share of resamples without the figure above which there is no interval
_SAME = 1e-12
_LARGEST = 1e6


@dataclass(frozen=True)
class Resampling:
    """The groups of labeled images and how they are drawn.

    Attributes:
        owner: int64 (N,) number of each image's group, 0 to G - 1.
        stratum: int64 (G,) the most frequent class of each group.
        alone: Whether every group has one image.
    """

    owner: Ints
    stratum: Ints
    alone: bool

    @classmethod
    def of(cls, labels: Ints, groups: npt.NDArray[Any] | None, classes: int) -> Resampling:
        """Number the groups; None takes each image as its own."""
        if groups is None:
            return cls(np.arange(len(labels)), labels, True)
        names, owner = np.unique(np.asarray(groups).astype(str), return_inverse=True)
        table = np.bincount(owner * classes + labels, minlength=len(names) * classes).reshape(-1, classes)
        return cls(owner.astype(np.int64), table.argmax(axis=1).astype(np.int64), len(names) == len(labels))

    def bootstrap(self, resamples: int, seed: int) -> npt.NDArray[np.float32]:
        """How often each group is drawn: float32 (R, G); each stratum keeps its number of groups."""
        rng = np.random.default_rng(seed)
        weights = np.zeros((resamples, len(self.stratum)), np.float32)
        for stratum in np.unique(self.stratum):
            members = np.flatnonzero(self.stratum == stratum)
            for begin in range(0, resamples, _DRAWN):
                rows = np.arange(min(_DRAWN, resamples - begin))
                drawn = rng.integers(0, len(members), (len(rows), len(members)))
                flat = (drawn + rows[:, None] * len(members)).ravel()
                weights[begin : begin + len(rows), members] = np.bincount(flat, minlength=drawn.size).reshape(drawn.shape)
        return weights

    def jackknife(self) -> npt.NDArray[np.float32]:
        """Weights that leave out each group; of more than 200, blocks of them, in which every stratum is spread: float32 (B, G)."""
        groups = len(self.stratum)
        blocks = min(groups, _BLOCKS)
        block = np.empty(groups, dtype=np.int64)
        block[np.argsort(self.stratum, kind="stable")] = np.arange(groups) % blocks
        weights: npt.NDArray[np.float32] = (block[None, :] != np.arange(blocks)[:, None]).astype(np.float32)
        return weights


def intervals(
    labels: Ints,
    p: Floats,
    classes: Sequence[str],
    groups: npt.NDArray[Any] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """An interval for every figure of `score`.

    Args:
        labels: int64 (N,) true classes.
        p: float64 (N, K) probabilities.
        classes: K class names.
        groups: (N,) patient or lesion of each image; None takes each image as its own.
        seed: Seed of the draws.
        resamples: Number of draws.

    Returns:
        `level`, `resamples`, `strata` (how groups are drawn), `figures` (dotted name to `low`, `high` and `method`: `BCa`, `test
        inversion`, `percentile` or `exact`) and `reasons` (dotted name to a sentence, for each defined figure without an interval).
    """
    drawn = Resampling.of(labels, groups, len(classes))
    figures = WeightedFigures(labels, p, classes, drawn.owner)
    ones, weights = np.ones((1, figures.groups)), drawn.bootstrap(resamples, seed)
    point, samples, left_out = figures(ones)[0], figures(weights), figures(drawn.jackknife())
    support = _Support(labels, p, classes, drawn)
    found: dict[str, dict[str, Any]] = {}
    reasons: dict[str, str] = {}
    for column, name in enumerate(figures.names):
        if np.isnan(point[column]):
            continue
        proportion = support.proportion(name)
        if drawn.alone and proportion is not None:
            found[name] = exact(*proportion)
            continue
        if (short := support.shortage(name)) is not None:
            reasons[name] = short
            continue
        if name == "ece":
            found[name] = inverted(figures.gaps(ones)[0], figures.gaps(weights))
            continue
        interval = bca(float(point[column]), samples[:, column], left_out[:, column], support.freedom(name))
        if interval is None and proportion is not None and proportion[0] in (0, proportion[1]):
            interval = exact(*support.proportion_of_groups(name))
        if interval is None:
            reasons[name] = "it is the same however the groups are drawn, which is no certainty but too little variety in the test"
        else:
            found[name] = interval
    return {"level": LEVEL, "resamples": resamples, "strata": STRATA, "figures": found, "reasons": reasons}


def bca(point: float, samples: Floats, left_out: Floats, freedom: int | None = None) -> dict[str, Any] | None:
    """Ends of the bootstrap interval: bias-corrected and accelerated, or plain percentiles where that cannot be computed.

    Args:
        point: The figure.
        samples: float64 (R,) the figure of every resample; NaN where undefined.
        left_out: float64 (B,) the figure without each group or block of groups.
        freedom: Groups behind the figure less the strata they are drawn in. A resample varies less than a new sample by n - 1 over n,
            and its spread is itself uncertain; so the ends are moved out as a t-interval is against a normal one (Hesterberg 2015,
            doi:10.1080/00031305.2015.1089789). None leaves them.

    Returns:
        `low`, `high`, `method`; None where nothing varies, or more than one in twenty resamples has no such figure.
    """
    known = samples[~np.isnan(samples)]
    if len(known) < (1 - _UNDEFINED) * len(samples) or np.ptp(known) < _SAME:
        return None
    z = norm.ppf(np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    if freedom is not None:
        z = np.sign(z) * t.ppf((1 + LEVEL) / 2, max(1, freedom)) * np.sqrt(1 + 1 / max(1, freedom))
    tails = norm.cdf(z)
    below = ((known < point - _SAME).sum() + 0.5 * (np.abs(known - point) <= _SAME).sum()) / len(known)
    pull = left_out.mean() - left_out
    spread = float((pull**2).sum())
    method = "percentile"
    if 0 < below < 1 and np.isfinite(spread) and spread > 0:
        bias = norm.ppf(below)
        acceleration = float((pull**3).sum()) / (6 * spread**1.5)
        tails, method = norm.cdf(bias + (bias + z) / (1 - acceleration * (bias + z))), "BCa"
    low, high = np.quantile(known, tails)
    return {"low": float(low), "high": float(high), "method": method}


def inverted(gaps: Floats, samples: Floats) -> dict[str, Any]:
    """An interval of a sum of distances, by inverting a test.

    Such a sum is biased upwards: chance alone makes some distance in every bin, so that no resample is near zero and percentiles fail. The
    interval holds every size at which the observed sum would not be unusual: would a sample, the sum of |distances + noise| with the noise
    of the resamples, be as small, or as large? How such distances are spread over the bins is not known: as observed, or as the noise is.
    The interval holds what either allows; size zero is a perfect model.

    Args:
        gaps: float64 (B,) distances with their signs.
        samples: float64 (R, B) of the resamples.

    Returns:
        `low`, `high`, `method`.
    """
    noise, seen = samples[np.isfinite(samples).all(axis=1)] - gaps, float(np.abs(gaps).sum())
    spread = noise.std(axis=0)
    profiles = [gaps] if spread.sum() == 0 else [gaps, np.sign(gaps) * spread * seen / spread.sum()]
    ends = [_scales(profile, noise, seen) for profile in profiles]
    return {"low": min(low for low, _ in ends) * seen, "high": max(high for _, high in ends) * seen, "method": "test inversion"}


def _scales(profile: Floats, noise: Floats, seen: float) -> tuple[float, float]:
    """The multiples of the distances (B,) at which the sum that was seen is not unusual."""

    def beyond(scale: float, share: float) -> float:
        return float(np.quantile(np.abs(scale * profile + noise).sum(axis=1), share)) - seen

    few, most = (1 - LEVEL) / 2, (1 + LEVEL) / 2
    low = 0.0 if beyond(0.0, most) >= 0 else float(brentq(beyond, 0.0, 1.0, args=(most,), xtol=1e-4)) if beyond(1.0, most) > 0 else 1.0
    if beyond(0.0, few) >= 0:
        return 0.0, 1.0
    largest = 1.0
    while beyond(largest, few) < 0 and largest < _LARGEST:
        largest *= 2
    return low, float(brentq(beyond, 0.0, largest, args=(few,), xtol=1e-4)) if largest < _LARGEST else 1.0


def exact(hits: int, total: int) -> dict[str, Any]:
    """Clopper and Pearson's interval of a proportion of independent images: never too narrow."""
    tail = (1 - LEVEL) / 2
    low = float(beta.ppf(tail, hits, total - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, total - hits)) if hits < total else 1.0
    return {"low": low, "high": high, "method": "exact"}


class _Support:
    """How many images and groups stand behind each figure."""

    def __init__(self, labels: Ints, p: Floats, classes: Sequence[str], drawn: Resampling) -> None:
        self.drawn, self.classes = drawn, list(classes)
        predicted = p.argmax(axis=1)
        self.right = predicted == labels
        self.true = {name: labels == k for k, name in enumerate(classes)}
        self.called = {name: predicted == k for k, name in enumerate(classes)}
        self.positives = {name: self._groups(mask) for name, mask in self.true.items()}
        self.negatives = {name: self._groups(~mask) for name, mask in self.true.items()}

    def _groups(self, mask: npt.NDArray[np.bool_]) -> int:
        return len(np.unique(self.drawn.owner[mask]))

    def proportion(self, name: str) -> tuple[int, int] | None:
        """Hits and images of a figure that is a simple proportion."""
        parts = self._parts(name)
        return None if parts is None else (int((parts[0] & parts[1]).sum()), int(parts[1].sum()))

    def proportion_of_groups(self, name: str) -> tuple[int, int]:
        """The same where all or none are hits, with the groups as the independent units."""
        parts = self._parts(name)
        assert parts is not None  # noqa: S101  (asked for proportions only)
        groups = self._groups(parts[1])
        return (groups if (parts[0] & parts[1]).any() else 0), groups

    def _parts(self, name: str) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]] | None:
        """Which images are hits, and among which."""
        if name == "accuracy":
            return self.right, np.ones(len(self.right), bool)
        of, figure = _split(name)
        if figure == "recall":
            return self.called[of], self.true[of]
        if figure == "precision":
            return self.true[of], self.called[of]
        return (~self.called[of], ~self.true[of]) if figure == "specificity" else None

    def freedom(self, name: str) -> int:
        """Groups that a figure rests on, less the strata they are drawn in."""
        of, figure = _split(name)
        if not of:
            return len(self.drawn.stratum) - len(np.unique(self.drawn.stratum))
        if figure == "recall":
            return self.positives[of] - 1
        return (self.negatives[of] if figure == "specificity" else min(self.positives[of], self.negatives[of])) - 1

    def shortage(self, name: str) -> str | None:
        """Why too few groups stand behind a figure, if so."""
        of, figure = _split(name)
        if not of:
            few = [one for one in self.classes if 0 < self.positives[one] < FEWEST_GROUPS]
            if name in {"accuracy", "brier", "log_loss", "ece", "mcc", "kappa"}:
                total = len(self.drawn.stratum)
                return None if total >= FEWEST_GROUPS else _too_few("the test", total)
            return _too_few(f"class '{few[0]}'", self.positives[few[0]]) if few else None
        if figure == "precision" and (groups := self._groups(self.called[of])) < FEWEST_GROUPS:
            return _too_few(f"what was called '{of}'", groups)
        if figure != "specificity" and self.positives[of] < FEWEST_GROUPS:
            return _too_few(f"class '{of}'", self.positives[of])
        if figure != "recall" and self.negatives[of] < FEWEST_GROUPS:
            return _too_few(f"all classes but '{of}'", self.negatives[of])
        return None


def _split(name: str) -> tuple[str, str]:
    """Class and figure of a dotted name; the class is empty for a figure of all."""
    return (name.removeprefix("per_class.").rpartition(".")[0], name.rpartition(".")[2]) if name.startswith("per_class.") else ("", name)


def _too_few(what: str, groups: int) -> str:
    return f"{what} has {groups} group{'s' if groups != 1 else ''} (patients or lesions), and below {FEWEST_GROUPS} chance cannot be told"
