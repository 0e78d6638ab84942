"""The linear probe: a regularised logistic regression on frozen, standardised features, folded into one linear layer."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
DEFAULT_STRENGTH = 0.01
LEAST_PER_CLASS_TO_CHOOSE = 10


@dataclass(frozen=True)
class Probe:
    """A solved linear head.

    Attributes:
        weight: float32 (K, D), to be used on raw features.
        bias: float32 (K,).
        strength: Inverse regularisation C.
        reason: Why this C.
    """

    weight: Tensor
    bias: Tensor
    strength: float
    reason: str

    def logits(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Features float32 (N, D) to logits float32 (N, K)."""
        scores: npt.NDArray[np.float32] = torch.nn.functional.linear(torch.from_numpy(features), self.weight, self.bias).numpy()
        return scores


def fit_probe(
    features: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    groups: npt.NDArray[np.object_],
    seed: int,
    strength: float | None = None,
) -> Probe:
    """Fit the probe.

    Classes are weighted by the inverse of their frequency. The inverse regularisation strength C is chosen by the log loss of a
    cross-validation over groups when every class has ten labels, and is 0.01 otherwise.

    Args:
        features: float32 (N, D) frozen embeddings of the training images.
        labels: int64 (N,) class numbers; all K classes occur.
        groups: (N,) group names, which stay in one fold.
        seed: Seed of the folds.
        strength: C, where it is chosen already.
    """
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-3
    scaled = (features - mean) / spread
    reason = "as given"
    if strength is None:
        strength, reason = _choose_strength(scaled, labels, groups, seed)
    model = _model(strength)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(scaled, labels)
    weight, bias = model.coef_, model.intercept_
    if len(weight) == 1:  # two classes: one row of log odds becomes two symmetric rows
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / spread
    return Probe(torch.from_numpy(weight).float(), torch.from_numpy(bias - weight @ mean).float(), strength, reason)


def _model(strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=500, class_weight="balanced")


def _choose_strength(
    scaled: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], groups: npt.NDArray[np.object_], seed: int
) -> tuple[float, str]:
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_score

    rarest = np.bincount(labels).min()
    folds = min(5, *(len(set(groups[labels == number])) for number in np.unique(labels)))
    if rarest < LEAST_PER_CLASS_TO_CHOOSE or folds < 2:
        return DEFAULT_STRENGTH, f"inverse regularisation; the rarest class has {rarest} labels, too few to choose it"
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    losses = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for strength in STRENGTHS:
            scores = cross_val_score(_model(strength), scaled, labels, groups=groups, cv=splitter, scoring="neg_log_loss")
            losses[strength] = -float(np.mean(scores))
    losses = {strength: loss for strength, loss in losses.items() if np.isfinite(loss)}
    if not losses:
        return DEFAULT_STRENGTH, "inverse regularisation; no fold could score it"
    return min(losses, key=lambda strength: losses[strength]), f"inverse regularisation with the least log loss over {folds} folds by group"
