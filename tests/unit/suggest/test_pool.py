"""What the strategies see of a pool."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA

from isograft.suggest.pool import MOST_DIMENSIONS, Pool, Turns, compact


def unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def test_a_group_comes_again_only_after_all_others() -> None:
    pool = Pool(np.zeros((4, 2), np.float32), np.zeros((0, 2), np.float32), np.array([0, 0, 1, 2]), np.array([0, 0, 1]))
    turns, order = Turns(pool), []
    for _ in range(4):
        rows = np.flatnonzero(turns.free)
        order.append(turns.best(rows, np.array([9.0, 8.0, 1.0, 7.0])[rows]))
        turns.take(order[-1])
    assert order == [0, 2, 1, 3]


def test_compact_embeddings_keep_the_angles_of_what_varies_most() -> None:
    rng = np.random.default_rng(0)
    x = unit(rng.normal(size=(300, 5)) @ rng.normal(size=(5, 200)) + 0.001 * rng.normal(size=(300, 200)))
    short, known = compact(x, x[:7])
    assert short.shape == (300, MOST_DIMENSIONS)
    np.testing.assert_allclose(short[:7], known, atol=1e-6)  # a library may round a product of another shape otherwise
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1, atol=1e-5)
    expected = unit(PCA(MOST_DIMENSIONS, svd_solver="full").fit_transform(x.astype(float)))
    np.testing.assert_allclose(short @ short.T, expected @ expected.T, atol=2e-4)


def test_few_or_equal_images_can_be_compacted() -> None:
    x = np.tile(unit(np.ones((1, 3))), (2, 1))
    short, known = compact(x, x[:0])
    assert short.shape == (2, 3) and known.shape == (0, 3) and np.isfinite(short).all()
