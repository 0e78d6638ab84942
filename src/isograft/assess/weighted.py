"""All figures of many reweighted samples at once: a bootstrap and a jackknife are both this, with other weights.

Every group (patient, lesion) has a weight in each of R samples: how often it was drawn, or 0 where it is left out. With all weights 1 the
figures are those of `assess.metrics.score`. Counts are sums of group matrices (one matrix product); areas under curves are cumulated
weights along the sorted scores.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isograft.assess import matrices as counts
from isograft.assess.calibration import brier_terms, equal_mass, log_loss_terms

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_CACHED = 80_000  # weights of images at a time, so that they stay in the processor's cache: 10 times as fast as all at once


@dataclass(frozen=True)
class Ranked:
    """Scores of one class against the rest, in rising order, equal ones together.

    Attributes:
        owner: int64 (N,) group of each image, in that order.
        starts: int64 (U,) where each of U distinct scores begins.
        hit_owner: int64 (P,) group of each positive image, in that order.
        hit_starts: int64 (V,) where each distinct score of positive images begins among them.
        hit_place: int64 (V,) which of the U scores it is.
    """

    owner: Ints
    starts: Ints
    hit_owner: Ints
    hit_starts: Ints
    hit_place: Ints


class WeightedFigures:
    """Figures of one classifier as a function of the groups' weights.

    Args:
        labels: int64 (N,) true classes.
        p: float64 (N, K) probabilities.
        classes: K class names.
        owner: int64 (N,) number of each image's group, 0 to G - 1.

    Attributes:
        names: Dotted names of the figures, as in `score`: `accuracy`, ..., `per_class.<class>.recall`, ...
    """

    def __init__(self, labels: Ints, p: Floats, classes: Sequence[str], owner: Ints) -> None:
        self.images, self.groups, self.classes = len(labels), int(owner.max()) + 1, len(classes)
        predicted = p.argmax(axis=1)
        self.matrices = counts.by_group(labels, predicted, owner, self.groups, self.classes).reshape(self.groups, -1).astype(np.float64)
        confidence, right = p.max(axis=1), predicted == labels
        cut = equal_mass(confidence)
        gaps = np.zeros((self.groups, len(cut.low)))
        np.add.at(gaps, (owner, cut.number), confidence - right)
        sums = [np.bincount(owner, weights=terms, minlength=self.groups) for terms in (brier_terms(labels, p), log_loss_terms(labels, p))]
        self.linear = np.column_stack([np.bincount(owner, minlength=self.groups), *sums, gaps])
        self.ranked = [rank(p[:, k], labels == k, owner) for k in range(self.classes)]
        self.names = [*counts.OVERALL, "macro_roc_auc", "macro_pr_auc", "brier", "log_loss", "ece"]
        self.names += [f"per_class.{name}.{figure}" for figure in (*counts.PER_CLASS, "roc_auc", "pr_auc") for name in classes]

    def __call__(self, weights: npt.NDArray[np.floating]) -> Floats:
        """Weights (R, G), at least 0, to figures float64 (R, M) in the order of `names`; NaN where undefined."""
        step = max(4, _CACHED // self.images)
        chunks = [weights[begin : begin + step] for begin in range(0, len(weights), step)]
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # numpy lets go of the interpreter's lock
            return np.concatenate(list(pool.map(self._chunk, chunks)))

    def gaps(self, weights: npt.NDArray[np.floating]) -> Floats:
        """Confidence less accuracy of each calibration bin, times its share, whose sizes sum to ECE: weights (R, G) to float64 (R, B)."""
        sums = weights.astype(np.float64) @ self.linear
        return counts.ratio(sums[:, 3:], sums[:, :1])

    def _chunk(self, weights: npt.NDArray[np.floating]) -> Floats:
        w = weights.astype(np.float64)
        matrices = (w @ self.matrices).reshape(-1, self.classes, self.classes)
        present = counts.true_images(matrices) > 0
        sums = w @ self.linear
        both = [areas(one, np.ascontiguousarray(w.T)) for one in self.ranked]
        roc, pr = (np.column_stack(each) for each in zip(*both, strict=True))
        overall = [figure(matrices) for figure in counts.OVERALL.values()]
        overall += [counts.present_mean(roc, present), counts.present_mean(pr, present)]
        images = sums[:, 0]
        overall += [counts.ratio(sums[:, 1], images), counts.ratio(sums[:, 2], images)]
        overall.append(counts.ratio(np.abs(sums[:, 3:]).sum(axis=1), images))
        per_class = [figure(matrices) for figure in counts.PER_CLASS.values()]
        return np.column_stack([*overall, *per_class, roc, pr])


def rank(scores: Floats, positive: npt.NDArray[np.bool_], owner: Ints) -> Ranked:
    """Rank the scores of one class once, for many samples: scores (N,), positive (N,), number of each image's group (N,)."""
    order = np.argsort(scores, kind="stable")
    starts = np.r_[0, np.flatnonzero(np.diff(scores[order])) + 1]
    place = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(scores)))
    hit = place[positive[order]]
    hit_starts = np.r_[0, np.flatnonzero(np.diff(hit)) + 1][: len(hit)]
    return Ranked(owner[order], starts, owner[order][positive[order]], hit_starts, hit[hit_starts])


def areas(ranked: Ranked, weights: Floats) -> tuple[Floats, Floats]:
    """Areas under the ROC curve (ties count half) and the precision-recall curve (a step sum) for weights (G, R): float64 (R,)."""
    if not len(ranked.hit_place):
        return np.full(weights.shape[1], np.nan), np.full(weights.shape[1], np.nan)
    rows, hits = _by_score(weights[ranked.owner], ranked.starts), _by_score(weights[ranked.hit_owner], ranked.hit_starts)
    up_to, caught = np.cumsum(rows, axis=0), np.cumsum(hits, axis=0)
    total, positives = up_to[-1], caught[-1]
    negatives = total - positives
    here, up_to = rows[ranked.hit_place], up_to[ranked.hit_place]
    won = np.einsum("ur,ur->r", hits, up_to - caught - 0.5 * (here - hits))
    roc = counts.ratio(won, positives * negatives)
    found, called = positives - caught + hits, total - up_to + here  # from the highest score down to this one
    precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
    pr = counts.ratio(np.einsum("ur,ur->r", hits, precision), positives)
    return roc, np.where(negatives > 0, pr, np.nan)


def _by_score(weights: Floats, starts: Ints) -> Floats:
    """Sums over the images of equal score."""
    summed: Floats = weights if len(starts) == len(weights) else np.add.reduceat(weights, starts)
    return summed
