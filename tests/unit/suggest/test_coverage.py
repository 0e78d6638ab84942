"""Coverage on points whose clusters are known, and laws every choice keeps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from isograft.suggest.coverage import clusters, typical, typicality
from isograft.suggest.pool import Pool


def unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def blobs(sizes: list[int], seed: int = 0, spread: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around orthogonal directions, and which each belongs to."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(len(sizes)), sizes)
    return unit(np.eye(len(sizes), 8)[of] + rng.normal(0, spread, (len(of), 8))), of


def pool_of(x: np.ndarray, known: np.ndarray | None = None, groups: np.ndarray | None = None, turns: np.ndarray | None = None) -> Pool:
    groups = np.arange(len(x)) if groups is None else groups
    turns = np.zeros(int(groups.max()) + 1, np.int64) if turns is None else turns
    return Pool(x, np.zeros((0, x.shape[1]), np.float32) if known is None else known, groups, turns)


def test_every_cluster_gets_one_image_the_largest_first_and_says_for_how_many_it_stands() -> None:
    x, of = blobs([50, 20, 35])
    chosen = typical(pool_of(x), 3, 0)
    assert of[[one.row for one in chosen]].tolist() == [0, 2, 1] and [one.standing for one in chosen] == [50, 35, 20]


def test_what_is_labeled_already_is_covered() -> None:
    x, of = blobs([50, 20, 35])
    known = blobs([1, 0, 1], seed=3)[0]
    (only,) = typical(pool_of(x, known), 1, 0)
    assert of[only.row] == 1 and only.standing == 20


def test_the_image_of_a_cluster_is_the_one_with_the_nearest_neighbours() -> None:
    x, _ = blobs([40])
    near, _ = NearestNeighbors(n_neighbors=21).fit(x).kneighbors(x)
    (only,) = typical(pool_of(x), 1, 0)
    assert only.row == near[:, 1:].mean(axis=1).argmin()
    np.testing.assert_allclose(1 / typicality(x, 0), near[:, 1:].mean(axis=1), atol=2e-3)


def test_a_patient_comes_again_only_after_the_others_of_the_cluster() -> None:
    x, of = blobs([30, 30])
    groups = np.tile(np.arange(10), 6)
    turns = np.zeros(10, np.int64)
    turns[:9] = 1
    chosen = typical(pool_of(x, groups=groups, turns=turns), 2, 0)
    assert groups[chosen[0].row] == 9
    assert {of[one.row] for one in chosen} == {0, 1} and len(chosen) == 2


def test_outliers_come_after_everything_else() -> None:
    x, of = blobs([40, 2, 40], spread=0.005)
    assert set(of[[one.row for one in typical(pool_of(x), 10, 0)]]) == {0, 2}


def test_an_image_compared_with_a_draw_is_as_typical_as_among_all() -> None:
    x = unit(np.random.default_rng(0).normal(size=(2600, 3)))
    drawn = typicality(x, 0)
    near, _ = NearestNeighbors(n_neighbors=21).fit(x).kneighbors(x)
    ratio = drawn * near[:, 1:].mean(axis=1)
    assert abs(np.median(ratio) - np.sqrt(2000 / 2600)) < 0.02
    sample = np.isin(np.arange(2600), np.random.default_rng(0).choice(2600, 2000, replace=False))
    assert abs(np.median(ratio[sample]) - np.median(ratio[~sample])) < 0.02


def test_equal_images_and_more_wanted_than_there_are_is_no_trouble() -> None:
    x = np.tile(unit(np.ones((1, 4))), (6, 1))
    assert sorted(one.row for one in typical(pool_of(x), 9, 0)) == list(range(6))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(1, 70), st.integers(0, 8), st.integers(0, 5))
def test_choices_are_distinct_as_many_as_asked_and_the_same_again(images: int, n: int, known: int, seed: int) -> None:
    rng = np.random.default_rng(images)
    pool = pool_of(unit(rng.normal(size=(images, 5))), unit(rng.normal(size=(known, 5))), rng.integers(0, 7, images), np.zeros(7, np.int64))
    rows = [one.row for one in typical(pool, n, seed)]
    assert len(rows) == len(set(rows)) == min(n, images)
    assert rows == [one.row for one in typical(pool, n, seed)]


@pytest.mark.parametrize("threads", [1, 2])
def test_clusters_do_not_depend_on_the_number_of_threads(threads: int) -> None:
    from threadpoolctl import threadpool_limits

    x, _ = blobs([400, 300, 300], spread=0.4)
    with threadpool_limits(threads):
        found = clusters(x, 12, 0)
    assert np.array_equal(found, clusters(x, 12, 0))
