"""Cover the embedding of a pool, without any label.

What was tried besides, and how all compare on real images: docs/explanation/suggest.md.
"""

from __future__ import annotations

import numpy as np

from isograft.suggest.pool import Choice, Embeddings, Floats, Pool, Rows, Turns

NEIGHBOURS = 20
MOST_CLUSTERS = 500
LEAST_IN_CLUSTER = 5
MOST_COMPARED = 2000
WHOLE_KMEANS = 20_000
"""Up to so many images k-means sees all in every step; beyond, minibatches."""

_ROWS = 1024


def typical(pool: Pool, n: int, seed: int) -> list[Choice]:
    """TypiClust: the most typical image of each cluster without a label, largest clusters first (Hacohen et al. 2022, arXiv:2202.02794).

    Pool and labeled images are cut into as many clusters as there will be labels, 500 at most. An image is typical by the inverse mean
    distance to its 20 nearest neighbours in the cluster (to 2,000 drawn of a larger one). Clusters with the fewest labels come first, those
    of fewer than 5 images last: their images are unlike others, and often faulty.

    Args:
        pool: The candidates.
        n: How many to choose.
        seed: Seed of k-means.
    """
    both = np.concatenate([pool.embeddings, pool.known])
    cluster = clusters(both, min(n + len(pool.known), MOST_CLUSTERS), seed)
    own, covered = cluster[: len(pool)], cluster[len(pool) :]
    count = int(cluster.max()) + 1
    sizes, labels = np.bincount(own, minlength=count), np.bincount(covered, minlength=count)
    scores = np.zeros(len(pool))
    members = [np.flatnonzero(own == number) for number in range(count)]
    for rows in members:
        scores[rows] = typicality(pool.embeddings[rows], seed)
    turns, chosen, left = Turns(pool), [], sizes.copy()
    for _ in range(min(n, len(pool))):
        number = int(np.lexsort((-sizes, labels, sizes < LEAST_IN_CLUSTER, left == 0))[0])
        rows = members[number][turns.free[members[number]]]
        row = turns.best(rows, scores[rows])
        turns.take(row)
        chosen.append(Choice(row, int(sizes[number]) if labels[number] == 0 else 0))
        labels[number] += 1
        left[number] -= 1
    return chosen


def clusters(x: Embeddings, count: int, seed: int) -> Rows:
    """k-means: int64 (N,) numbers of clusters, 0 and up; on one thread, so that sums round alike. Beyond 20,000 images in minibatches."""
    import warnings

    from sklearn.cluster import KMeans, MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    count = min(count, len(x))
    make = KMeans(count, n_init=1, random_state=seed, max_iter=50)
    if len(x) > WHOLE_KMEANS:
        make = MiniBatchKMeans(count, n_init=1, random_state=seed, batch_size=4096)
    with threadpool_limits(1, "openmp"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fewer distinct images than clusters
        found: Rows = make.fit_predict(x).astype(np.int64)
    return found


def typicality(x: Embeddings, seed: int) -> Floats:
    """Inverse of the mean distance to the 20 nearest others, of at most 2,000 drawn: float64 (N,)."""
    drawn = np.arange(len(x)) if len(x) <= MOST_COMPARED else np.random.default_rng(seed).choice(len(x), MOST_COMPARED, replace=False)
    k = min(NEIGHBOURS, len(drawn) - 1)
    if k < 1:
        return np.zeros(len(x))
    own = np.isin(np.arange(len(x)), drawn)  # these find themselves, at distance 0, and need one neighbour more
    found = np.empty(len(x))
    for begin in range(0, len(x), _ROWS):
        squared = np.maximum(2 - 2 * (x[begin : begin + _ROWS] @ x[drawn].T).astype(float), 0)
        nearest = np.sqrt(np.partition(squared, (k - 1, k), axis=1)[:, : k + 1])
        found[begin : begin + _ROWS] = (nearest[:, :k].sum(axis=1) + nearest[:, k] * own[begin : begin + _ROWS]) / k
    return 1 / (found + 1e-5)
