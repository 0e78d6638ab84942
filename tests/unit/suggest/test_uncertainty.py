"""Uncertainty against sorting by hand, and laws every choice keeps."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.suggest.test_coverage import pool_of, unit

from isograft.suggest.uncertainty import margins, unsure


def probabilities(count: int, classes: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(classes), count)


def points(count: int) -> np.ndarray:
    return unit(np.random.default_rng(1).normal(size=(count, 3)))


def test_the_margin_is_one_between_equals_and_zero_where_there_is_no_doubt() -> None:
    p = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.2, 0.7, 0.1]])
    np.testing.assert_allclose(margins(p), [1, 0, 0.5])


def test_the_most_unsure_come_first() -> None:
    p = probabilities(30, 4, 0)
    top = np.sort(p, axis=1)
    assert [one.row for one in unsure(pool_of(points(30)), margins(p), 9)] == np.argsort(top[:, -1] - top[:, -2])[:9].tolist()


def test_a_patient_comes_again_only_after_all_others() -> None:
    p = np.array([[0.5, 0.5], [0.51, 0.49], [0.9, 0.1]])
    rows = [one.row for one in unsure(pool_of(points(3), groups=np.array([0, 0, 1])), margins(p), 3)]
    assert rows == [0, 2, 1]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 50), st.integers(2, 5), st.integers(1, 60), st.integers(0, 9))
def test_choices_are_distinct_and_a_larger_n_begins_with_the_smaller(images: int, classes: int, n: int, seed: int) -> None:
    scores = margins(probabilities(images, classes, seed))
    pool = pool_of(points(images), groups=np.random.default_rng(seed).integers(0, 9, images), turns=np.zeros(9, np.int64))
    rows = [one.row for one in unsure(pool, scores, n)]
    assert len(rows) == len(set(rows)) == min(n, images)
    assert rows[: n // 2] == [one.row for one in unsure(pool, scores, n // 2)]


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 40), st.integers(0, 9))
def test_another_order_of_the_pool_gives_the_same_images(images: int, seed: int) -> None:
    p, order = probabilities(images, 3, seed), np.random.default_rng(seed + 1).permutation(images)
    n = images // 2
    rows = [one.row for one in unsure(pool_of(points(images)), margins(p), n)]
    turned = [int(order[one.row]) for one in unsure(pool_of(points(images)[order]), margins(p)[order], n)]
    assert rows == turned
