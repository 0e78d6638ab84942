"""Sets of classes that hold the true one as often as promised, and what it costs to answer only when sure.

Split-conformal prediction: on images the model was not trained on, each class gets a score of how badly it fits; a set takes all classes
whose score is at most a quantile of the scores of the true classes. If new images are drawn like those (same clinics, cameras,
case mix), they have their class in the set with at least the wanted probability, whatever the model (Vovk 2005). That is an average
over images: no promise for one patient, for another clinic, or, unless fitted per class, for one class.

Images of one patient are alike, so n images of G patients are worth less than n. Every image counts once, as in a test, but the allowance
for what is to come is a patient of average size, not one image. For patients with equally many images this is hierarchical conformal
prediction (Lee, Barber and Willett 2023, arXiv:2306.06342), whose promise holds whatever the images of a patient have in common. With
unequal numbers that method counts every patient once; where patients with many images are the harder ones, it covers too few images
(docs/explanation/decisions.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

Method = Literal["lac", "aps", "lac_per_class"]
METHODS: tuple[Method, ...] = get_args(Method)
"""`lac`: least ambiguous sets, score 1 - p (Sadinle 2019, arXiv:1609.00451). `aps`: adaptive sets, score the probability of all classes
before this one and a drawn share of its own (Romano 2020, arXiv:2006.02544). `lac_per_class`: `lac` with a quantile for each true class, so
that the promise holds within every class, rare ones too (Mondrian; Vovk 2012)."""


@dataclass(frozen=True)
class Conformal:
    """A fitted rule.

    Attributes:
        method: One of `METHODS`.
        coverage: The share promised, in (0, 1).
        thresholds: float64 (K,), the highest score with which each class stays in a set; infinite where there were too few patients to
            leave the class out at this coverage.
    """

    method: Method
    coverage: float
    thresholds: Floats

    def sets(self, p: Floats, ids: Sequence[str]) -> Mask:
        """Which classes each image's set holds.

        Args:
            p: float64 (N, K) probabilities.
            ids: Ids of the images: `aps` draws from them, so that an image always gets the same set.

        Returns:
            bool (N, K).
        """
        held: Mask = scores(self.method, p, ids) <= self.thresholds
        return held

    def record(self) -> dict[str, Any]:
        """The rule, JSON-ready; an infinite threshold is null."""
        return {
            "method": self.method,
            "coverage": self.coverage,
            "thresholds": [t if np.isfinite(t) else None for t in self.thresholds.tolist()],
        }

    @classmethod
    def of(cls, record: dict[str, Any]) -> Conformal:
        """The rule of a `record`."""
        thresholds = np.array([np.inf if t is None else t for t in record["thresholds"]], dtype=np.float64)
        return cls(record["method"], float(record["coverage"]), thresholds)


def fit(p: Floats, labels: Ints, groups: npt.NDArray[Any], ids: Sequence[str], coverage: float, method: Method) -> Conformal:
    """Fit a rule on images the model was not trained on.

    Args:
        p: float64 (N, K) probabilities.
        labels: int64 (N,) true classes.
        groups: (N,) patients or lesions.
        ids: N ids.
        coverage: The share promised, in (0, 1).
        method: One of `METHODS`.
    """
    true = scores(method, p, ids)[np.arange(len(labels)), labels]
    if method == "lac_per_class":
        thresholds = [_quantile(true[labels == k], groups[labels == k], coverage) for k in range(p.shape[1])]
    else:
        thresholds = [_quantile(true, groups, coverage)] * p.shape[1]
    return Conformal(method, coverage, np.array(thresholds))


def scores(method: Method, p: Floats, ids: Sequence[str]) -> Floats:
    """How badly every class fits each image: float64 (N, K), small is good."""
    if method != "aps":
        return 1 - p
    order = np.argsort(-p, axis=1, kind="stable")
    ranked = np.take_along_axis(p, order, axis=1)
    before = np.cumsum(ranked, axis=1) - ranked
    found = np.empty_like(p)
    np.put_along_axis(found, order, before + _drawn(ids)[:, None] * ranked, axis=1)
    return found


def described(held: Mask, labels: Ints, classes: Sequence[str]) -> dict[str, Any]:
    """How sets did on labeled images.

    Args:
        held: bool (N, K), the sets.
        labels: int64 (N,) true classes.
        classes: K class names.

    Returns:
        `covered` (share of images whose class is in the set), `mean_size`, `singletons` and `empty` (shares), `per_class` (`covered` by
        true class; None for a class without an image).
    """
    right, size = held[np.arange(len(labels)), labels], held.sum(axis=1)
    per_class = {name: float(right[labels == k].mean()) if (labels == k).any() else None for k, name in enumerate(classes)}
    return {
        "covered": float(right.mean()),
        "mean_size": float(size.mean()),
        "singletons": float((size == 1).mean()),
        "empty": float((size == 0).mean()),
        "per_class": per_class,
    }


def risk_coverage(labels: Ints, p: Floats) -> dict[str, Any]:
    """The share of wrong answers among the images the model is surest of (Geifman and El-Yaniv 2017, arXiv:1705.08500).

    Args:
        labels: int64 (N,) true classes.
        p: float64 (N, K) probabilities.

    Returns:
        `coverage` and `risk`, a point for every distinct confidence from the surest on, and `aurc`, the area under the curve: the mean
        over images of the risk at their confidence.
    """
    confidence, wrong = p.max(axis=1), p.argmax(axis=1) != labels
    order = np.argsort(-confidence, kind="stable")
    last = np.append(np.flatnonzero(np.diff(confidence[order])), len(order) - 1)
    answered = last + 1
    risk = np.cumsum(wrong[order])[last] / answered
    share = np.diff(answered, prepend=0) / len(labels)
    return {"coverage": (answered / len(labels)).tolist(), "risk": risk.tolist(), "aurc": float((risk * share).sum())}


def _quantile(values: Floats, groups: npt.NDArray[Any], coverage: float) -> float:
    """The k-th smallest of n scores, k = ceil((n + n / G) coverage) for G groups; infinite where k is more than n.

    A new image comes with a new group, which weighs as much as an average one of the G, and whose scores may be of any size.
    """
    if len(values) == 0:
        return float("inf")
    allowance = len(values) / len(np.unique(groups.astype(str)))
    rank = max(1, int(np.ceil((len(values) + allowance) * coverage - 1e-9)))
    return float(np.partition(values, rank - 1)[rank - 1]) if rank <= len(values) else float("inf")


def _drawn(ids: Sequence[str]) -> Floats:
    """A number in [0, 1) for each id, the same for the same id: float64 (N,)."""
    digests = [hashlib.sha256(f"aps {key}".encode()).digest()[:8] for key in ids]
    return np.array([(int.from_bytes(digest, "big") >> 11) * 2.0**-53 for digest in digests], dtype=np.float64)
