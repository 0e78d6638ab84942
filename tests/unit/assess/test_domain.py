"""The out-of-domain distance: against scikit-learn's neighbours, and its threshold by laws and simulation."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from isograft.assess.domain import NEIGHBOURS, Domain, distances, fit_domain


def _embeddings(seed: int, n: int, shift: float = 0.0, width: int = 12) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return (0.5 * draw.normal(size=(n, width)) + 2 + shift * (np.arange(width) < 3)).astype(np.float32)


@pytest.mark.parametrize("neighbours", [1, 5])
def test_distances_are_those_of_scikit_learns_neighbours(neighbours: int) -> None:
    train, new = _embeddings(0, 60), _embeddings(1, 300, 1.0)
    near = NearestNeighbors(n_neighbors=neighbours, metric="cosine").fit(train.astype(np.float64))
    assert distances(train, new, neighbours) == pytest.approx(near.kneighbors(new.astype(np.float64))[0][:, -1], abs=1e-12)


@given(st.integers(0, 100), st.floats(0.01, 100))
@settings(max_examples=25, deadline=None)
def test_brightness_of_an_embedding_does_not_matter(seed: int, factor: float) -> None:
    train, new = _embeddings(seed, 30), _embeddings(seed + 1, 10)
    assert distances(train, (new * factor).astype(np.float32), 5) == pytest.approx(distances(train, new, 5), abs=1e-6)


@pytest.mark.parametrize("held", [99, 250, 1000])
def test_of_the_held_out_images_at_most_one_in_a_hundred_is_flagged(held: int) -> None:
    train, out = _embeddings(0, 80), _embeddings(1, held)
    domain = fit_domain([(train, out)])
    flagged = (domain.relative(train, out) > 1).sum()
    assert flagged == held - int(np.ceil(0.99 * (held + 1))) and domain.images == held


def test_of_few_held_out_images_the_farthest_sets_the_threshold() -> None:
    train, out = _embeddings(0, 80), _embeddings(1, 98)
    domain = fit_domain([(train, out)])
    assert domain.relative(train, out).max() == 1


def test_new_images_of_the_same_kind_are_flagged_as_often_as_promised() -> None:
    flagged = []
    for seed in range(40):
        train = _embeddings(3 * seed, 60)
        domain = fit_domain([(train, _embeddings(3 * seed + 1, 200))], flagged=0.05)
        flagged.append((domain.relative(train, _embeddings(3 * seed + 2, 400)) > 1).mean())
    assert np.mean(flagged) == pytest.approx(0.05, abs=0.012)


def test_images_of_another_kind_are_flagged() -> None:
    train = _embeddings(0, 100)
    domain = fit_domain([(train, _embeddings(1, 200))])
    assert (domain.relative(train, _embeddings(2, 100, shift=12.0)) > 1).all()


def test_an_image_trained_on_is_never_farther_than_it_would_be_as_a_new_one_and_hardly_ever_flagged() -> None:
    train = _embeddings(0, 100)
    domain = fit_domain([(train, _embeddings(1, 200))])
    known = domain.relative(train, train)
    fresh = [float(domain.relative(np.delete(train, row, axis=0), train[row : row + 1])[0]) for row in range(100)]
    assert (known <= fresh).all() and (known < fresh).any()
    assert (known > 1).sum() <= 1


def test_one_foreign_image_in_the_training_does_not_make_its_like_familiar() -> None:
    train, foreign = _embeddings(0, 100), _embeddings(2, 50, shift=12.0)
    domain = fit_domain([(train, _embeddings(1, 200))])
    spoilt = np.concatenate([train, foreign[:1]])
    assert domain.neighbours == NEIGHBOURS > 1
    assert (domain.relative(spoilt, foreign[1:]) > 1).all()
    nearest = Domain(float(np.quantile(distances(train, _embeddings(1, 200), 1), 0.99)), 1, 200)
    assert (nearest.relative(spoilt, foreign[1:]) > 1).mean() < 0.5


def test_folds_are_judged_by_the_images_of_their_own_network() -> None:
    pairs = [(_embeddings(seed, 40), _embeddings(seed + 50, 60)) for seed in range(5)]
    domain = fit_domain(pairs, flagged=0.1)
    apart = np.sort(np.concatenate([distances(train, out, 5) for train, out in pairs]))
    assert (domain.threshold, domain.images) == (apart[int(np.ceil(0.9 * 301)) - 1], 300)


def test_fewer_training_images_than_neighbours_still_give_a_distance() -> None:
    train = _embeddings(0, 3)
    domain = fit_domain([(train, _embeddings(1, 20))])
    assert domain.neighbours == 3 and np.isfinite(domain.relative(train, _embeddings(2, 4))).all()


def test_copies_of_the_training_images_give_a_finite_distance() -> None:
    train = np.repeat(_embeddings(0, 1), 10, axis=0)
    domain = fit_domain([(train, train)])
    found = domain.relative(train, np.concatenate([train[:1], _embeddings(1, 3)]))
    assert found[0] <= 1 and np.isfinite(found).all() and (found[1:] > 1).all()


def test_an_embedding_of_zeros_is_at_distance_one() -> None:
    assert distances(_embeddings(0, 20), np.zeros((1, 12), np.float32), 5) == pytest.approx([1.0])


@given(st.integers(0, 50))
@settings(max_examples=15, deadline=None)
def test_an_image_has_the_same_distance_alone_and_in_any_company(seed: int) -> None:
    train, new = _embeddings(seed, 50, width=64), _embeddings(seed + 1, 300, width=64)
    domain = fit_domain([(train, _embeddings(seed + 2, 100, width=64))])
    together = domain.relative(train, new)
    assert [float(domain.relative(train, new[row : row + 1])[0]) for row in (0, 7, 299)] == together[[0, 7, 299]].tolist()


def test_a_domain_survives_being_stored() -> None:
    domain = fit_domain([(_embeddings(0, 30), _embeddings(1, 120))])
    assert Domain.of(json.loads(json.dumps(domain.record()))) == domain
