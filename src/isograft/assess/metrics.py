"""Figures of a classifier on labeled images, each with a reason where it is not defined.

Everything is computed here from the confusion matrix and from ranks, so that one convention holds
throughout: a figure that does not exist for these data (the area under a curve of a class that has
no image, say) is `None`, and `reasons` says why under the figure's dotted name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from isograft.assess import matrices as counts
from isograft.assess.calibration import calibration_scores
from isograft.errors import IsograftError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_MEANS = ("precision", "recall", "f1", "specificity", "roc_auc", "pr_auc")


@dataclass(frozen=True)
class Curve:
    """Points of a curve from the strictest threshold to the loosest.

    Attributes:
        x: float64 (P,) in [0, 1]: false positive rate (ROC) or recall (precision-recall).
        y: float64 (P,) in [0, 1]: true positive rate (ROC) or precision (precision-recall).
        thresholds: float64 (P,) score at and above which an image counts as positive; first is inf.
    """

    x: Floats
    y: Floats
    thresholds: Floats


def score(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    classes: Sequence[str],
    groups: npt.ArrayLike | None = None,
) -> dict[str, Any]:
    """Compute every figure of a classifier on labeled images.

    Args:
        labels: int (N,) true class of each image, an index into `classes`.
        probabilities: float (N, K) in [0, 1], each row sums to 1 within 1e-3.
        classes: K class names.
        groups: (N,) patient or lesion of each image; None takes each image as its own group.

    Returns:
        A JSON-ready dict: `n_images`, `n_groups`, `accuracy`, `balanced_accuracy` (mean recall),
        `macro_precision`, `macro_recall`, `macro_f1`, `macro_specificity`, `macro_roc_auc`
        (one class against the rest), `macro_pr_auc` (average precision), `mcc`
        (Gorodkin 2004, doi:10.1016/j.compbiolchem.2004.09.006), `kappa` (Cohen 1960), `brier`, `log_loss` and `ece`
        (see `isograft.assess.calibration`),
        `per_class` (the same per class, with `images`, `groups` and `predicted`), `confusion_matrix`
        (rows: true class, columns: predicted), `macro_classes` (the classes the means run over: those
        with images) and `reasons` (dotted name of each undefined figure -> sentence).
        A class that is present but never predicted counts with precision 0 in `macro_precision`.

    Raises:
        IsograftError: no image, shapes that do not fit, labels out of range or numbers that are no probabilities.
    """
    y, p = _checked(labels, probabilities, len(classes))
    owners = np.arange(len(y)).astype(str) if groups is None else np.asarray(groups).astype(str)
    if owners.shape != y.shape:
        raise IsograftError(f"cannot score {len(y)} labels with {owners.size} groups; give one group per image")
    matrix = confusion_matrix(y, p.argmax(axis=1), len(classes))
    reasons: dict[str, str] = {}
    per_class = {name: _one_class(k, name, y, p, matrix, owners, reasons) for k, name in enumerate(classes)}
    present = [name for name in classes if per_class[name]["images"]]
    return {
        "n_images": len(y),
        "n_groups": int(np.unique(owners).size),
        "accuracy": float(np.trace(matrix) / len(y)),
        "balanced_accuracy": _macro(per_class, present, "recall"),
        **_overall(per_class, present, matrix, reasons),
        **calibration_scores(y, p),
        "per_class": per_class,
        "confusion_matrix": matrix.tolist(),
        "macro_classes": present,
        "reasons": reasons,
    }


def confusion_matrix(labels: Ints, predicted: Ints, classes: int) -> Ints:
    """Count images by true class (row) and predicted class (column): int64 (K, K)."""
    matrix: Ints = counts.by_group(labels, predicted, np.zeros_like(labels), 1, classes)[0]
    return matrix


def roc_auc(positive: npt.NDArray[np.bool_], scores: Floats) -> float | None:
    """Area under the ROC curve by ranks (Mann-Whitney); ties count half; None without both kinds."""
    n = int(positive.sum())
    m = len(positive) - n
    if n == 0 or m == 0:
        return None
    return float((rankdata(scores)[positive].sum() - n * (n + 1) / 2) / (n * m))


def average_precision(positive: npt.NDArray[np.bool_], scores: Floats) -> float | None:
    """Area under the precision-recall curve as the step sum of precision over recall; None without both kinds."""
    if not positive.any() or positive.all():
        return None
    curve = pr_curve(positive, scores)
    return float(np.sum(np.diff(curve.x) * curve.y[1:]))


def roc_curve(positive: npt.NDArray[np.bool_], scores: Floats) -> Curve:
    """ROC points, one per distinct score, from (0, 0) to (1, 1).

    Args:
        positive: bool (N,), with at least one image of each kind.
        scores: float64 (N,), higher means more likely positive.
    """
    hits, alarms, thresholds = _counts(positive, scores)
    return Curve(alarms / alarms[-1], hits / hits[-1], thresholds)


def pr_curve(positive: npt.NDArray[np.bool_], scores: Floats) -> Curve:
    """Precision over recall, one point per distinct score, from recall 0 (precision 1 by convention).

    Args:
        positive: bool (N,), with at least one positive image.
        scores: float64 (N,), higher means more likely positive.
    """
    hits, alarms, thresholds = _counts(positive, scores)
    precision = np.ones_like(hits)
    np.divide(hits, hits + alarms, out=precision, where=hits + alarms > 0)
    return Curve(hits / hits[-1], precision, thresholds)


def _counts(positive: npt.NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats, Floats]:
    """Cumulative true and false positives at each distinct score, strictest first, after a row of zeros."""
    order = np.argsort(-scores, kind="stable")
    ranked, hit = scores[order], positive[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    hits = np.cumsum(hit)[last].astype(np.float64)
    alarms = (last + 1) - hits
    zero = np.zeros(1)
    return np.concatenate([zero, hits]), np.concatenate([zero, alarms]), np.concatenate([zero + np.inf, ranked[last]])


def _checked(labels: npt.ArrayLike, probabilities: npt.ArrayLike, classes: int) -> tuple[Ints, Floats]:
    y, p = np.asarray(labels, dtype=np.int64), np.asarray(probabilities, dtype=np.float64)
    if y.size == 0:
        raise IsograftError("there is no image to score; give at least one labeled image")
    if p.shape != (y.size, classes) or y.ndim != 1:
        raise IsograftError(f"labels {y.shape} and probabilities {p.shape} do not fit {classes} classes; give (N,) and (N, {classes})")
    if y.min() < 0 or y.max() >= classes:
        raise IsograftError(
            f"label {int(y.min() if y.min() < 0 else y.max())} is outside the {classes} classes; labels are 0 to {classes - 1}"
        )
    if not np.isfinite(p).all() or p.min() < 0 or np.abs(p.sum(axis=1) - 1).max() > 1e-3:
        raise IsograftError("these are no probabilities: each row must be finite, in [0, 1] and sum to 1; the model may be damaged")
    return y, p


def _one_class(
    k: int, name: str, y: Ints, p: Floats, matrix: Ints, owners: npt.NDArray[np.str_], reasons: dict[str, str]
) -> dict[str, Any]:
    """Figures of one class against the rest; undefined ones are None and explained in `reasons`."""
    total, true, called, hit = (int(v) for v in (matrix.sum(), matrix[k].sum(), matrix[:, k].sum(), matrix[k, k]))
    absent = f"no image of class '{name}' was tested"
    alone = f"every image is of class '{name}', so there is no other class to tell it from"
    never = f"no image was predicted as '{name}'; it counts as 0 in macro_precision"
    values: dict[str, tuple[float | None, str]] = {
        "precision": (hit / called if called and true else None, never if true else absent),
        "recall": (hit / true if true else None, absent),
        "f1": (2 * hit / (true + called) if true else None, absent),
        "specificity": (1 - (called - hit) / (total - true) if total > true else None, alone),
        "roc_auc": (roc_auc(y == k, p[:, k]), alone if true else absent),
        "pr_auc": (average_precision(y == k, p[:, k]), alone if true else absent),
    }
    for key, (value, reason) in values.items():
        if value is None:
            reasons[f"per_class.{name}.{key}"] = reason
    counts = {"images": true, "groups": int(np.unique(owners[y == k]).size), "predicted": called}
    return {**counts, **{key: value for key, (value, _) in values.items()}}


def _overall(per_class: dict[str, dict[str, Any]], present: list[str], matrix: Ints, reasons: dict[str, str]) -> dict[str, float | None]:
    """Means over the classes with images, and agreement beyond chance; undefined ones are None and explained in `reasons`."""
    means = {f"macro_{name}": _macro(per_class, present, name) for name in _MEANS}
    agreement = {name: _known(float(counts.OVERALL[name](matrix[None])[0])) for name in ("mcc", "kappa")}
    for values, rest in ((means, "to tell apart"), (agreement, "to agree on beyond chance")):
        for name, value in values.items():
            if value is None:
                reasons[name] = f"every image is of class '{present[0]}', so there is nothing {rest}"
    return means | agreement


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _macro(per_class: dict[str, dict[str, Any]], present: list[str], key: str) -> float | None:
    """Plain mean over the classes that have images; a class never predicted has precision 0."""
    values = [0.0 if key == "precision" and per_class[name][key] is None else per_class[name][key] for name in present]
    return None if any(value is None for value in values) else float(np.mean(values))
