"""How well a label is told from what should not tell it: a cross-validated linear model, judged by an interval over groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isograft.assess.matrices import present_mean
from isograft.assess.weighted import Ranked, areas, rank
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
    owners, owner = np.unique(groups, return_inverse=True)
    ranked = [rank(scores[:, place], labels == one, owner) for place, one in enumerate(names)]
    low, high = _interval(ranked, len(owners))
    recalls = [float((names[scores[labels == one].argmax(axis=1)] == one).mean()) for one in names]
    auc = float(_macro_areas(ranked, np.ones((1, len(owners))))[0])
    return Probe(name, auc, low, high, float(np.mean(recalls)), 1 / len(names), len(labels), len(owners))


def _testable(labels: Labels, groups: Labels) -> npt.NDArray[np.bool_]:
    """The rows of classes with enough groups to stand in every fold: bool (N,)."""
    enough = {name for name in set(labels.tolist()) if len(set(groups[labels == name].tolist())) >= FOLDS}
    return np.array([name in enough for name in labels], dtype=bool)


def _macro_areas(ranked: list[Ranked], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean area under the ROC curve over the classes that were drawn, for weights of the groups (R, G): (R,)."""
    each = np.column_stack([areas(one, np.ascontiguousarray(weights.T))[0] for one in ranked])
    return present_mean(each, ~np.isnan(each))


def _interval(ranked: list[Ranked], groups: int) -> tuple[float, float]:
    """Percentile interval of the macro AUC, whole groups drawn anew."""
    draw = np.random.default_rng(0)
    times = [np.bincount(draw.integers(0, groups, groups), minlength=groups) for _ in range(RESAMPLES)]
    values = _macro_areas(ranked, np.array(times, dtype=np.float64))
    return float(np.nanquantile(values, 0.025)), float(np.nanquantile(values, 0.975))
