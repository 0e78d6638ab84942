"""Whether probabilities mean what they say: proper scores, calibration error, reliability, and the temperature that mends them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.stats import norm

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BINS = 10
_TINY = 1e-12  # a probability of zero would cost infinitely much
_WIDEST = 20.0


def brier(labels: Ints, p: Floats) -> float:
    """Brier score, the mean over images of the sum over classes of (p - truth)²: 0 is perfect, 2 the worst (Brier 1950).

    Args:
        labels: int64 (N,) true classes.
        p: float64 (N, K) probabilities.
    """
    return float(brier_terms(labels, p).mean())


def brier_terms(labels: Ints, p: Floats) -> Floats:
    """What each image adds to the Brier score: float64 (N,) in [0, 2]."""
    truth = np.eye(p.shape[1])[labels]
    terms: Floats = ((p - truth) ** 2).sum(axis=1)
    return terms


def log_loss(labels: Ints, p: Floats) -> float:
    """Mean of -ln(probability of the true class), in nats; probabilities below 1e-12 count as 1e-12."""
    return float(log_loss_terms(labels, p).mean())


def log_loss_terms(labels: Ints, p: Floats) -> Floats:
    """What each image adds to the log loss: float64 (N,), at least 0."""
    terms: Floats = -np.log(np.maximum(p[np.arange(len(labels)), labels], _TINY))
    return terms


def calibration_scores(labels: Ints, p: Floats) -> dict[str, float]:
    """How far probabilities can be taken at their word: `brier`, `log_loss` and `ece`."""
    return {"brier": brier(labels, p), "log_loss": log_loss(labels, p), "ece": expected_calibration_error(labels, p)}


@dataclass(frozen=True)
class Bins:
    """Images sorted by a probability into bins of equal mass.

    Attributes:
        number: int64 (N,) bin of each image.
        low: float64 (B,) smallest probability in each bin.
        high: float64 (B,) largest.
    """

    number: Ints
    low: Floats
    high: Floats


def equal_mass(scores: Floats, bins: int = BINS) -> Bins:
    """Cut images into bins of about equal size; equal scores share a bin, so there may be fewer bins.

    Args:
        scores: float64 (N,).
        bins: Bins at most.
    """
    values, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2
    wanted = np.minimum((middle * bins / len(scores)).astype(np.int64), bins - 1)
    _, number = np.unique(wanted, return_inverse=True)
    first = np.r_[0, np.flatnonzero(np.diff(number)) + 1]
    last = np.r_[first[1:] - 1, len(values) - 1]
    return Bins(number[place].astype(np.int64), values[first], values[last])


def expected_calibration_error(labels: Ints, p: Floats, bins: int = BINS) -> float:
    """Mean over images of |confidence - accuracy| of its bin, for the most probable class (Naeini 2015, with bins of equal mass).

    It is at least 0 by its definition, so that chance alone makes it positive: about sqrt(bins / images) for a perfect model.
    """
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels
    number = equal_mass(confidence, bins).number
    return float(np.abs(np.bincount(number, weights=confidence - right)).sum() / len(labels))


def reliability(scores: Floats, happened: npt.NDArray[np.bool_], groups: npt.NDArray[Any], bins: int = BINS) -> list[dict[str, Any]]:
    """How often what was given some probability happened: the points of a reliability diagram.

    Args:
        scores: float64 (N,) in [0, 1], the probability given.
        happened: bool (N,).
        groups: (N,) patient or lesion of each image.
        bins: Bins at most, of equal mass.

    Returns:
        For each bin `from`, `to`, `confidence` (mean score), `frequency`, `images`, and a 95 % interval `low`, `high` of the frequency:
        Wilson's (1927), with the images counted as so many independent ones as their spread between groups allows.
    """
    cut, points = equal_mass(scores, bins), []
    for number in range(len(cut.low)):
        mine = cut.number == number
        frequency = float(happened[mine].mean())
        low, high = _wilson(frequency, _effective(happened[mine], groups[mine]))
        points.append(
            {
                "from": float(cut.low[number]),
                "to": float(cut.high[number]),
                "confidence": float(scores[mine].mean()),
                "frequency": frequency,
                "low": low,
                "high": high,
                "images": int(mine.sum()),
            }
        )
    return points


def fit_temperature(labels: Ints, p: Floats) -> float:
    """The temperature whose division of the logits makes the log loss least (Guo et al. 2017, arXiv:1706.04599).

    Args:
        labels: int64 (N,) classes of images the model was not trained on.
        p: float64 (N, K) softmax probabilities; their logarithms are the logits, up to a constant.

    Returns:
        A temperature in [0.05, 20]; above 1 where the model is too sure of itself. 1 where every image is right, since then the sharpest
        temperature would fit best, and a few images that went well would make the model certain of everything.
    """
    if (p.argmax(axis=1) == labels).all():
        return 1.0

    def loss(logarithm: float) -> float:
        return log_loss(labels, apply_temperature(p, float(np.exp(logarithm))))

    widest = np.log(_WIDEST)
    return float(np.exp(minimize_scalar(loss, bounds=(-widest, widest), method="bounded", options={"xatol": 1e-6}).x))


def apply_temperature(p: Floats, temperature: float) -> Floats:
    """Probabilities whose logits are divided by a temperature: p^(1/T), scaled to sum 1; the order of the classes stays.

    Args:
        p: float64 (..., K).
        temperature: T, above 0; 1 changes nothing.
    """
    if temperature == 1:
        return p
    logits = np.log(np.maximum(p, np.finfo(np.float64).tiny)) / temperature
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scaled: Floats = raised / raised.sum(axis=-1, keepdims=True)
    return scaled


def _effective(happened: npt.NDArray[np.bool_], groups: npt.NDArray[Any]) -> float:
    """How many independent images these are worth: N over the design effect of their groups (Kish 1965)."""
    names, owner = np.unique(groups.astype(str), return_inverse=True)
    n, spread = len(happened), float(happened.mean() * (1 - happened.mean()))
    if len(names) == n:
        return float(n)
    if spread == 0 or len(names) < 2:
        return float(len(names))
    residual = np.bincount(owner, weights=happened - happened.mean())
    clustered = len(names) / (len(names) - 1) * float((residual**2).sum()) / n**2
    return float(min(n, spread / clustered)) if clustered > 0 else float(n)


def _wilson(share: float, n: float) -> tuple[float, float]:
    z2 = float(norm.ppf(0.975) ** 2)
    centre, half = share + z2 / (2 * n), np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n)))
    return max(0.0, float((centre - half) / (1 + z2 / n))), min(1.0, float((centre + half) / (1 + z2 / n)))
