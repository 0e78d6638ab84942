"""How well a label is told from what should not tell it: a cross-validated linear model, judged by an interval over groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isograft.data.splits import keyed_rank

MOST_IMAGES = 5000
FOLDS = 5
RESAMPLES = 300
_RIDGE = 10.0

Labels = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Probe:
    """How well one probe tells the label.

    Attributes:
        name: What the model saw.
        auc: Area under the ROC curve on held-out images, each class against the rest, mean of classes; 0.5 is chance.
        low: Lower end of its 95 % interval.
        high: Upper end.
        balanced_accuracy: Mean recall of the classes on held-out images.
        chance: What guessing gives: one over the number of classes.
        images: How many images were used.
        groups: Of how many groups.
    """

    name: str
    auc: float
    low: float
    high: float
    balanced_accuracy: float
    chance: float
    images: int
    groups: int


def probe(name: str, features: npt.NDArray[np.float32], labels: Labels, groups: Labels, keys: Sequence[str]) -> Probe | None:
    """Tell the label by a linear model (ridge regression on class indicators, classes weighted alike), cross-validated over groups.

    Args:
        name: What the features are.
        features: float32 (N, D).
        labels: (N,) class names.
        groups: (N,) groups; one is never on both sides.
        keys: (N,) what identifies the images: results depend on it, never on the order of the rows. More than 5,000 images are drawn from.

    Returns:
        None where fewer than two classes have as many groups as there are folds.
    """
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    order = np.argsort(keyed_rank(keys, 0, "shortcuts"), kind="stable")
    rows = order[_testable(labels, groups)[order]][:MOST_IMAGES]
    rows = rows[_testable(labels[rows], groups[rows])]  # a class may have lost groups in the draw
    features, labels, groups = features[rows], labels[rows].astype(str), groups[rows].astype(str)
    names = np.unique(labels)
    if len(names) < 2:
        return None
    scores = np.zeros((len(labels), len(names)))
    for train, test in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(features, labels, groups):
        model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=_RIDGE, class_weight="balanced"))
        told = model.fit(features[train], labels[train]).decision_function(features[test])
        scores[test[:, None], np.searchsorted(names, model.classes_)] = np.stack([-told, told], axis=1) if told.ndim == 1 else told
    ranked = [_Ranked.of(scores[:, place], labels == one) for place, one in enumerate(names)]
    low, high = _interval(ranked, groups)
    recalls = [float((names[scores[labels == one].argmax(axis=1)] == one).mean()) for one in names]
    auc = _macro([one.auc(np.ones(len(labels))) for one in ranked])
    return Probe(name, auc, low, high, float(np.mean(recalls)), 1 / len(names), len(labels), len(np.unique(groups)))


def _testable(labels: Labels, groups: Labels) -> npt.NDArray[np.bool_]:
    """The rows of classes with enough groups to stand in every fold: bool (N,)."""
    enough = {name for name in set(labels.tolist()) if len(set(groups[labels == name].tolist())) >= FOLDS}
    return np.array([name in enough for name in labels], dtype=bool)


@dataclass(frozen=True)
class _Ranked:
    """Scores of one class, ranked once.

    Attributes:
        place: The rank of every score, ties alike.
        positive: Which images are of the class.
        ranks: How many ranks there are.
    """

    place: npt.NDArray[np.int64]
    positive: npt.NDArray[np.bool_]
    ranks: int

    @classmethod
    def of(cls, score: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> _Ranked:
        values, place = np.unique(score, return_inverse=True)
        return cls(place, positive, len(values))

    def auc(self, weights: npt.NDArray[np.float64]) -> float:
        """Weighted Mann-Whitney statistic: the chance that a positive scores above a negative; ties count half."""
        up = np.bincount(self.place, weights * self.positive, minlength=self.ranks)
        down = np.bincount(self.place, weights * ~self.positive, minlength=self.ranks)
        total = up.sum() * down.sum()
        return float((up * (np.cumsum(down) - down / 2)).sum() / total) if total > 0 else float("nan")


def _interval(ranked: list[_Ranked], groups: Labels) -> tuple[float, float]:
    """Percentile interval of the macro AUC, whole groups drawn anew."""
    draw = np.random.default_rng(0)
    owners, owner = np.unique(groups, return_inverse=True)
    values = []
    for _ in range(RESAMPLES):
        times = np.bincount(draw.integers(0, len(owners), len(owners)), minlength=len(owners))[owner].astype(float)
        values.append(_macro([one.auc(times) for one in ranked]))
    return float(np.nanquantile(values, 0.025)), float(np.nanquantile(values, 0.975))


def _macro(areas: list[float]) -> float:
    """Mean over the classes that were drawn."""
    return float(np.nanmean(areas)) if not np.isnan(areas).all() else float("nan")
