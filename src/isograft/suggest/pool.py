"""The images to choose from, as the strategies see them, and whose turn it is among patients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Embeddings = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """Candidates and what is labeled already.

    The order of the rows breaks ties and starts the draws: put them in an order that does not depend on that of the files.

    Attributes:
        embeddings: float32 (N, D) of the candidates, each of length 1.
        known: float32 (C, D) of labeled images, each of length 1; C may be 0.
        groups: int64 (N,) numbers of the groups (patients, near-duplicates), 0 and up.
        turns: int64 (G,) how many images of each group are labeled already.
    """

    embeddings: Embeddings
    known: Embeddings
    groups: Rows
    turns: Rows

    def __len__(self) -> int:
        return len(self.embeddings)


@dataclass(frozen=True)
class Choice:
    """An image chosen.

    Attributes:
        row: Its row in the pool.
        standing: For how many images of the pool it stands: those of its cluster, or nearest to it; 0 where it stands for itself.
    """

    row: int
    standing: int = 0


class Turns:
    """Which candidates are left, and how often their group has been chosen: a group comes again after all others."""

    def __init__(self, pool: Pool) -> None:
        self._groups = pool.groups
        self._turns = pool.turns.copy()
        self.free = np.ones(len(pool), dtype=bool)

    def best(self, rows: Rows, scores: Floats) -> int:
        """Of candidates that are left, the one with the largest score among those whose group was chosen least; the first of equals."""
        turns = self._turns[self._groups[rows]]
        fresh = np.flatnonzero(turns == turns.min())
        return int(rows[fresh[np.argmax(scores[fresh])]])

    def take(self, row: int) -> None:
        """Choose a candidate."""
        self.free[row] = False
        self._turns[self._groups[row]] += 1


MOST_DIMENSIONS = 64
_SAMPLE = 5000


def compact(embeddings: Embeddings, known: Embeddings) -> tuple[Embeddings, Embeddings]:
    """Rotate embeddings to the 64 directions in which the pool varies most, and scale them to length 1 again.

    Ten times faster to cluster, and what is left out is mostly noise. The directions are those of at most 5,000 images of the pool.

    Args:
        embeddings: float32 (N, D) of the candidates.
        known: float32 (C, D) of labeled images.

    Returns:
        float32 (N, d) and (C, d), d = min(D, 64).
    """
    middle = embeddings[:_SAMPLE].mean(axis=0)
    sample = (embeddings[:_SAMPLE] - middle).astype(np.float64)
    axes = np.linalg.eigh(sample.T @ sample)[1][:, ::-1][:, :MOST_DIMENSIONS].astype(np.float32)
    axes *= np.where(np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0) < 0, -1, 1)  # one sign, whatever the library

    def turned(x: Embeddings) -> Embeddings:
        short = (x - middle) @ axes
        length = np.linalg.norm(short, axis=1, keepdims=True)
        unit: Embeddings = np.divide(short, length, out=np.zeros_like(short), where=length > 0)
        return unit

    return turned(embeddings), turned(known)
