"""Ways of choosing images that `isograft suggest` does not use, for benchmarks/suggest.py to compare with the two it does."""

from __future__ import annotations

import numpy as np

from isograft.suggest.coverage import MOST_CLUSTERS, clusters
from isograft.suggest.pool import Choice, Floats, Pool, Rows, Turns
from isograft.suggest.uncertainty import margins

_ROWS = 1024


def central(pool: Pool, n: int, seed: int) -> list[Choice]:
    """The image nearest to the centre of each cluster, largest clusters without a label first; see `typical`."""
    both = np.concatenate([pool.embeddings, pool.known])
    cluster = clusters(both, min(n + len(pool.known), MOST_CLUSTERS), seed)
    own, covered = cluster[: len(pool)], cluster[len(pool) :]
    count = int(cluster.max()) + 1
    sizes, labels = np.bincount(own, minlength=count), np.bincount(covered, minlength=count)
    members = [np.flatnonzero(own == number) for number in range(count)]
    scores = np.zeros(len(pool))
    for rows in members:
        if len(rows):
            scores[rows] = -((pool.embeddings[rows] - pool.embeddings[rows].mean(axis=0)) ** 2).sum(axis=1)
    turns, chosen = Turns(pool), []
    for _ in range(min(n, len(pool))):
        left = np.array([bool(turns.free[rows].any()) for rows in members])
        number = int(np.lexsort((-sizes, labels, ~left))[0])
        rows = members[number][turns.free[members[number]]]
        row = turns.best(rows, scores[rows])
        turns.take(row)
        chosen.append(Choice(row, int(sizes[number]) if labels[number] == 0 else 0))
        labels[number] += 1
    return chosen


def farthest(pool: Pool, n: int, seed: int) -> list[Choice]:
    """k-center greedy: always the image farthest from all that are labeled or chosen (Sener and Savarese 2018, arXiv:1708.00489).

    Without any label the first is the image nearest to the mean of all.
    """
    x, turns, everything = pool.embeddings, Turns(pool), np.arange(len(pool))
    near = np.full(len(pool), np.inf)
    for begin in range(0, len(pool.known), _ROWS):
        near = np.minimum(near, 2 - 2 * (x @ pool.known[begin : begin + _ROWS].T).max(axis=1).astype(float))
    if not len(pool.known):
        near = (x @ x.mean(axis=0)).astype(float)
    chosen: list[Choice] = []
    for _ in range(min(n, len(pool))):
        rows = everything[turns.free]
        row = turns.best(rows, near[rows])
        if not chosen and not len(pool.known):
            near = np.full(len(pool), np.inf)
        turns.take(row)
        near = np.minimum(near, 2 - 2 * (x @ x[row]).astype(float))
        chosen.append(Choice(row))
    return chosen


def dense(pool: Pool, n: int, seed: int, classes: int = 5, purity: float = 0.95) -> list[Choice]:
    """ProbCover: always the image within whose reach most images lie that nothing covers yet (Yehuda et al. 2022, arXiv:2205.11320).

    The reach is the largest at which at least `purity` of the images have only neighbours of their own cluster, of so many as there are
    classes.
    """
    x = pool.embeddings
    similar = x @ x.T
    cluster = clusters(x, classes, seed)
    other = np.where(cluster[:, None] == cluster[None], -1.0, similar).max(axis=1)  # similarity to the nearest image of another cluster
    reach = float(np.quantile(other, purity))
    reached = similar > max(reach, 0)
    covered = (x @ pool.known.T > reach).any(axis=1) if len(pool.known) else np.zeros(len(x), dtype=bool)
    turns, chosen, everything = Turns(pool), [], np.arange(len(x))
    for _ in range(min(n, len(x))):
        gain = reached[:, ~covered].sum(axis=1).astype(float)
        rows = everything[turns.free]
        row = turns.best(rows, gain[rows])
        turns.take(row)
        chosen.append(Choice(row, int(gain[row])))
        covered |= reached[row]
    return chosen


def entropies(p: Floats) -> Floats:
    """Entropy in nats: float64 (N,)."""
    return -(p * np.log(np.maximum(p, 1e-12))).sum(axis=1)


def unsure_apart(pool: Pool, scores: Floats, n: int, seed: int, breadth: int = 10) -> list[Choice]:
    """Of the `breadth` x n most unsure images, cut into n clusters, the most unsure of each (after Zhdanov 2019, arXiv:1901.05954)."""
    wide = np.argsort(-scores, kind="stable")[: breadth * n]
    cluster = clusters(pool.embeddings[wide], n, seed)
    return _from_clusters(pool, wide, cluster, scores, n)


def weighted_centres(pool: Pool, scores: Floats, n: int, seed: int, breadth: int = 10) -> list[Choice]:
    """Diverse mini-batch: of the `breadth` x n most unsure images, weighted k-means, the image nearest to each centre (Zhdanov 2019)."""
    from sklearn.cluster import KMeans

    wide = np.argsort(-scores, kind="stable")[: breadth * n]
    n = min(n, len(wide))
    model = KMeans(n, n_init=1, random_state=seed, max_iter=50).fit(pool.embeddings[wide], sample_weight=scores[wide] + 1e-9)
    near = np.zeros(len(pool))
    near[wide] = -model.transform(pool.embeddings[wide])[np.arange(len(wide)), model.labels_]
    return _from_clusters(pool, wide, model.labels_, near, n)


def gradient_spread(pool: Pool, p: Floats, n: int, seed: int) -> list[Choice]:
    """BADGE: k-means++ on the gradients of the head for the predicted class (Ash et al. 2020, arXiv:1906.03671).

    The gradient of an image is (p - one-hot of the predicted class) times its embedding; distances follow from both factors.
    """
    error = p.copy()
    error[np.arange(len(p)), p.argmax(axis=1)] -= 1
    x, rng = pool.embeddings.astype(float), np.random.default_rng(seed)
    length = (error**2).sum(axis=1) * (x**2).sum(axis=1)
    turns, chosen, near = Turns(pool), [], length.copy()
    row = int(length.argmax())
    for number in range(min(n, len(pool))):
        if number:
            weights = np.where(turns.free, np.maximum(near, 0), 0)
            row = int(rng.choice(len(pool), p=weights / weights.sum())) if weights.sum() > 0 else int(np.flatnonzero(turns.free)[0])
        turns.take(row)
        chosen.append(Choice(row))
        distance = length + length[row] - 2 * (error @ error[row]) * (x @ x[row])
        near = distance if number == 0 else np.minimum(near, distance)
    return chosen


def _from_clusters(pool: Pool, wide: Rows, cluster: Rows, scores: Floats, n: int) -> list[Choice]:
    """The best of every cluster, the surest last; then again until there are n."""
    turns, chosen = Turns(pool), []
    members = [wide[cluster == number] for number in np.unique(cluster)]
    while len(chosen) < min(n, len(wide)):
        round_ = []
        for rows in members:
            rows = rows[turns.free[rows]]
            if len(rows):
                row = turns.best(rows, scores[rows])
                turns.take(row)
                round_.append(row)
        round_.sort(key=lambda row: (-scores[row], row))
        chosen += [Choice(row) for row in round_]
    return chosen[:n]


def unsure_by_class(pool: Pool, p: Floats, counts: Rows, n: int) -> list[Choice]:
    """In turn for the class with the fewest labels, the most unsure image of those predicted to be of it.

    Args:
        pool: The candidates.
        p: float64 (N, K).
        counts: int64 (K,) labels per class so far; each choice counts as one of its predicted class.
        n: How many.
    """
    scores, predicted, counts = margins(p), p.argmax(axis=1), counts.copy()
    turns, chosen = Turns(pool), []
    for _ in range(min(n, len(pool))):
        for k in np.argsort(counts, kind="stable"):
            rows = np.flatnonzero(turns.free & (predicted == k))
            if len(rows):
                break
        row = turns.best(rows, scores[rows])
        turns.take(row)
        counts[predicted[row]] += 1
        chosen.append(Choice(row))
    return chosen
