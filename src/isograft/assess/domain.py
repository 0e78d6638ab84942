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
_ROUGH = 2e-5  # a cosine of 1280 numbers in float32 was never seen to be off by more than 1e-6
_FEW = 8
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

    def relative(self, trained: Known | Embeddings, embeddings: Embeddings) -> Floats:
        """Distance of images over the threshold: above 1 is out of domain.

        Args:
            trained: float32 (T, D), embeddings of the images trained on, best made ready once.
            embeddings: float32 (N, D).

        Returns:
            float64 (N,), at least 0.
        """
        known = trained if isinstance(trained, Known) else Known(trained)
        return np.round(known.distances(embeddings, self.neighbours) / self.threshold, _DIGITS)

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


class Known:
    """Embeddings that others are compared with, made ready once.

    Args:
        embeddings: float32 (T, D).
    """

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings = embeddings
        self._lengths = np.linalg.norm(embeddings.astype(np.float64), axis=-1)
        self._directions = directions(embeddings).astype(np.float32)

    def distances(self, embeddings: Embeddings, neighbours: int) -> Floats:
        """Cosine distance of each image to its k-th nearest one: float64 (N,) in [0, 2].

        A product in float32 tells which few can be meant; their distances are then computed in float64, one by one, so that those of an
        image are the same whatever stands beside it.

        Args:
            embeddings: float32 (N, D).
            neighbours: k, at most T.
        """
        found = np.empty(len(embeddings))
        for begin in range(0, len(embeddings), _ROWS):
            found[begin : begin + _ROWS] = self._nearest(directions(embeddings[begin : begin + _ROWS]), neighbours)
        return np.maximum(1 - found, 0.0)

    def _nearest(self, shown: Floats, neighbours: int) -> Floats:
        """The k-th largest cosine to each of a few directions (n, D): float64 (n,)."""
        roughly = shown.astype(np.float32) @ self._directions.T
        place = roughly.shape[1] - neighbours
        least = np.partition(roughly, place, axis=1)[:, place, None] - 2 * _ROUGH
        rows, columns = np.nonzero(roughly >= least)
        if len(rows) > _FEW * neighbours * len(shown):  # many copies of one image
            exact = np.stack([self._cosines(np.arange(roughly.shape[1]), one) for one in shown])
            kth: Floats = np.partition(exact, place, axis=1)[:, place]
            return kth
        cosines = self._cosines(columns, shown[rows])
        order = np.lexsort((-cosines, rows))
        first = np.searchsorted(rows, np.arange(len(shown)))
        return cosines[order][first + neighbours - 1]

    def _cosines(self, columns: npt.NDArray[np.intp], shown: Floats) -> Floats:
        """Cosines of some of the known images to a direction each, or all to one, each computed for itself."""
        along = np.einsum("pd,pd->p", self._embeddings[columns], np.broadcast_to(shown, (len(columns), shown.shape[-1])), dtype=np.float64)
        lengths = self._lengths[columns]
        cosines: Floats = np.divide(along, lengths, out=np.zeros_like(along), where=lengths > 0)
        return cosines


def distances(trained: Embeddings, embeddings: Embeddings, neighbours: int) -> Floats:
    """Cosine distance of each image to its k-th nearest one of the training: float64 (N,) in [0, 2]; see `Known`."""
    return Known(trained).distances(embeddings, neighbours)


def directions(embeddings: Embeddings) -> Floats:
    """Embeddings (..., D) of length 1; one of zeros stays, and is at distance 1 from everything."""
    wide = embeddings.astype(np.float64)
    length = np.linalg.norm(wide, axis=-1, keepdims=True)
    unit: Floats = np.divide(wide, length, out=np.zeros_like(wide), where=length > 0)
    return unit
