"""Ask about the images a classifier is unsure of.

What was tried besides, and how all compare on real images: docs/explanation/suggest.md.
"""

from __future__ import annotations

import numpy as np

from isograft.suggest.pool import Choice, Floats, Pool, Turns


def margins(p: Floats) -> Floats:
    """How unsure between two classes: 1 less the difference of the two largest probabilities, float64 (N,) in [0, 1] of (N, K)."""
    top = np.partition(p, p.shape[1] - 2, axis=1)
    return 1 - (top[:, -1] - top[:, -2])


def unsure(pool: Pool, scores: Floats, n: int) -> list[Choice]:
    """The images with the largest scores; those of a group chosen or labeled already come after all others.

    Args:
        pool: N candidates.
        scores: float64 (N,), for example their `margins` (Scheffer et al. 2001, doi:10.1007/3-540-44816-0_31).
        n: How many.
    """
    turns, chosen = Turns(pool), []
    for _ in range(min(n, len(pool))):
        rows = np.flatnonzero(turns.free)
        row = turns.best(rows, scores[rows])
        turns.take(row)
        chosen.append(Choice(row))
    return chosen
