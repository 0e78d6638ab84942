"""Whether an image is like those a model was made for: its distance, as the model sees it, to the labeled images of the training.

The distance is the cosine distance to the k-th nearest embedding of the training (Sun et al. 2022, arXiv:2204.06507). On real images it
told other kinds of photographs from dermoscopy better than Mahalanobis distances did, but for a network that was trained from scratch. Not
the nearest but the fifth: so an image of another kind that slipped into the training does not make its like look familiar
(docs/explanation/decisions.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Embeddings = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

NEIGHBOURS = 5
FLAGGED = 0.01
"""Share of images like those of the training that may be taken for others."""

_ROWS = 256
_DIGITS = 9  # sums of another order differ beyond; rounded, an image has the same distance whatever stands beside it


@dataclass(frozen=True)
class Domain:
    """The images a network was trained on, and how far from them is too far.

    Attributes:
        threshold: Cosine distance in [0, 2] above which an image is out of domain.
        neighbours: Which nearest neighbour the distance is taken to.
        images: How many held-out images the threshold was chosen on.
    """

    threshold: float
    neighbours: int
    images: int

    def relative(self, trained: Embeddings, embeddings: Embeddings) -> Floats:
        """Distance of images over the threshold: above 1 is out of domain.

        Args:
            trained: float32 (T, D), embeddings of the images trained on.
            embeddings: float32 (N, D).

        Returns:
            float64 (N,), at least 0.
        """
        return self.relative_to(directions(trained), embeddings)

    def relative_to(self, known: Floats, embeddings: Embeddings) -> Floats:
        """The same, of `directions` of the images trained on: for those who ask often."""
        return np.round(distances_to(known, embeddings, self.neighbours) / self.threshold, _DIGITS)

    def record(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"threshold": self.threshold, "neighbours": self.neighbours, "images": self.images}

    @classmethod
    def of(cls, record: dict[str, Any]) -> Domain:
        """Of a `record`."""
        return cls(float(record["threshold"]), int(record["neighbours"]), int(record["images"]))


def fit_domain(apart: Sequence[tuple[Embeddings, Embeddings]], flagged: float = FLAGGED) -> Domain:
    """Choose the threshold.

    Args:
        apart: Pairs of embeddings float32 (T, D) a network was trained on and (N, D) of images like them it was not.
        flagged: Share of images like these that may be flagged. Of fewer than 1 / flagged images the farthest sets the threshold; then a
            larger share of new ones is flagged, about 1 / (images + 1).
    """
    neighbours = min(NEIGHBOURS, *(len(trained) for trained, _ in apart))
    held = np.sort(np.concatenate([distances(trained, embeddings, neighbours) for trained, embeddings in apart]))
    rank = min(len(held), int(np.ceil((1 - flagged) * (len(held) + 1))))
    return Domain(max(float(held[rank - 1]), 1e-6), neighbours, len(held))


def distances(trained: Embeddings, embeddings: Embeddings, neighbours: int) -> Floats:
    """Cosine distance of each image to its k-th nearest one of the training: float64 (N,) in [0, 2]."""
    return distances_to(directions(trained), embeddings, neighbours)


def distances_to(known: Floats, embeddings: Embeddings, neighbours: int) -> Floats:
    """`distances`, of the directions of the images of the training: float64 (T, D)."""
    found = np.empty(len(embeddings))
    for begin in range(0, len(embeddings), _ROWS):
        near = directions(embeddings[begin : begin + _ROWS]) @ known.T
        found[begin : begin + _ROWS] = 1 - np.partition(near, len(known) - neighbours, axis=1)[:, len(known) - neighbours]
    return np.maximum(found, 0.0)


def directions(embeddings: Embeddings) -> Floats:
    """Embeddings (..., D) of length 1; one of zeros stays, and is at distance 1 from everything."""
    wide = embeddings.astype(np.float64)
    length = np.linalg.norm(wide, axis=-1, keepdims=True)
    unit: Floats = np.divide(wide, length, out=np.zeros_like(wide), where=length > 0)
    return unit
