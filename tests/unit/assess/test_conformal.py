"""Prediction sets against MAPIE, their promise by simulation, and what it costs to answer only when sure."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapie.classification import SplitConformalClassifier
from mapie.conformity_scores import APSConformityScore, LACConformityScore
from sklearn.base import BaseEstimator, ClassifierMixin

from isograft.assess import conformal
from isograft.assess.conformal import METHODS, Conformal, Method, described, fit, risk_coverage

K = 4


def _world(seed: int, n: int, skill: float = 1.5) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Probabilities of a classifier that is right now and then, and wrongly sure at times; labels; ids."""
    draw = np.random.default_rng(seed)
    labels = draw.choice(K, n, p=[0.5, 0.3, 0.15, 0.05])
    logits = skill * np.eye(K)[labels] + draw.normal(size=(n, K)) * draw.choice([0.5, 1.5], (n, 1))
    p = np.exp(logits)
    return p / p.sum(axis=1, keepdims=True), labels, [f"{seed}-{row}" for row in range(n)]


def _fit(seed: int, n: int, coverage: float, method: Method) -> Conformal:
    p, labels, ids = _world(seed, n)
    return fit(p, labels, np.arange(n), ids, coverage, method)


class Given(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose probabilities are its inputs."""

    def __init__(self, classes: int = K) -> None:
        self.classes_ = np.arange(classes)

    def fit(self, x: np.ndarray, y: np.ndarray) -> Given:
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return x

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x.argmax(axis=1)

    def __sklearn_is_fitted__(self) -> bool:
        return True


def _quantile_of(mapie: SplitConformalClassifier) -> float:
    """MAPIE's threshold, there once sets were predicted."""
    return float(mapie._mapie_classifier.conformity_score_function_.quantiles_[0])


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("seed", range(3))
def test_least_ambiguous_sets_and_their_threshold_are_those_of_mapie(seed: int, coverage: float) -> None:
    p, labels, ids = _world(seed, 217)
    q, _, others = _world(seed + 100, 300)
    mapie = SplitConformalClassifier(Given(), coverage, LACConformityScore(), prefit=True).conformalize(p, labels)
    rule, expected = fit(p, labels, np.arange(217), ids, coverage, "lac"), mapie.predict_set(q)[1][:, :, 0]
    assert rule.thresholds[0] == pytest.approx(_quantile_of(mapie), abs=1e-12)
    assert np.array_equal(rule.sets(q, others), expected)


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("seed", range(3))
def test_adaptive_sets_and_their_threshold_are_those_of_mapie_given_its_draws(
    seed: int, coverage: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    p, labels, ids = _world(seed, 217)
    q, _, others = _world(seed + 100, 300)
    mapie = SplitConformalClassifier(Given(), coverage, APSConformityScore(), prefit=True, random_state=seed).conformalize(p, labels)
    expected = mapie.predict_set(q, conformity_score_params={"include_last_label": "randomized"})[1][:, :, 0]
    monkeypatch.setattr(conformal, "_drawn", lambda named: 1 - np.random.RandomState(seed).uniform(size=len(named)))
    rule = fit(p, labels, np.arange(217), ids, coverage, "aps")
    assert rule.thresholds[0] == pytest.approx(_quantile_of(mapie), abs=1e-12)
    assert np.array_equal(rule.sets(q, others), expected)


@pytest.mark.filterwarnings("ignore:WARNING. your conformalization dataset has less labels")
def test_sets_per_class_are_those_of_mapie_fitted_to_each_class_alone() -> None:
    p, labels, ids = _world(7, 800)
    rule = fit(p, labels, np.arange(800), ids, 0.8, "lac_per_class")
    for k in range(K):
        mine = labels == k
        mapie = SplitConformalClassifier(Given(), 0.8, LACConformityScore(), prefit=True).conformalize(p[mine], labels[mine])
        assert np.array_equal(rule.sets(p, ids)[:, k], mapie.predict_set(p)[1][:, k, 0])


@pytest.mark.parametrize(("images", "rank"), [(9, 9), (19, 18), (100, 91)])
def test_the_threshold_is_the_rank_that_the_theorem_names(images: int, rank: int) -> None:
    draw = np.random.default_rng(images)
    right = draw.random(images)
    p = np.column_stack([right, 1 - right])
    rule = fit(p, np.zeros(images, int), np.arange(images), [""] * images, 0.9, "lac")
    assert rule.thresholds[0] == np.sort(1 - right)[rank - 1]


def test_too_few_images_leave_nothing_out() -> None:
    assert np.isinf(_fit(0, 8, 0.9, "lac").thresholds).all()
    assert np.isfinite(_fit(0, 9, 0.9, "lac").thresholds).all()


def test_a_class_with_too_few_images_is_in_every_set_and_others_are_not() -> None:
    p, labels, ids = _world(1, 300)
    keep = (labels != 3) | (np.cumsum(labels == 3) <= 8)
    rule = fit(
        p[keep], labels[keep], np.arange(keep.sum()), [one for one, kept in zip(ids, keep, strict=True) if kept], 0.9, "lac_per_class"
    )
    assert np.isinf(rule.thresholds).tolist() == [False, False, False, True]
    held = rule.sets(p, ids)
    assert held[:, 3].all() and not held[:, 0].all()


def test_patients_count_for_what_is_too_few() -> None:
    p, labels, ids = _world(2, 40)
    assert np.isinf(fit(p, labels, np.arange(40) // 5, ids, 0.9, "lac").thresholds).all()


@pytest.mark.parametrize("method", METHODS)
def test_new_images_have_their_class_in_the_set_as_often_as_promised(method: Method) -> None:
    covered, by_class = [], []
    q, truth, others = _world(10**6, 3000)
    for seed in range(60):
        held = _fit(seed, 150, 0.8, method).sets(q, others)
        figures = described(held, truth, list("abcd"))
        covered.append(figures["covered"])
        by_class.append(list(figures["per_class"].values()))
    assert 0.785 < np.mean(covered) < (0.84 if method == "lac_per_class" else 0.825)
    if method == "lac_per_class":
        assert (np.mean(by_class, axis=0) > 0.78).all()


@pytest.mark.parametrize("alike", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("harder", [-0.3, 0.0, 0.3])
def test_images_of_new_patients_are_covered_as_promised_however_alike_and_whoever_has_more(alike: float, harder: float) -> None:
    draw = np.random.default_rng(0)

    def scores(groups: int) -> tuple[np.ndarray, np.ndarray]:
        sizes = draw.integers(1, 9, groups)
        owner = np.repeat(np.arange(groups), sizes)
        common = np.sqrt(alike) * draw.normal(size=groups) + harder * (sizes - 4.5)
        return 1 / (1 + np.exp(-common[owner] - np.sqrt(1 - alike) * draw.normal(size=len(owner)))), owner

    truth, covered = np.sort(scores(20_000)[0]), []
    for _ in range(150):
        found, owner = scores(100)
        rule = fit(np.column_stack([1 - found, found]), np.zeros(len(found), int), owner, [""] * len(found), 0.9, "lac")
        covered.append(np.searchsorted(truth, rule.thresholds[0], side="right") / len(truth))
    assert 0.89 < np.mean(covered) < 0.92


@given(st.integers(0, 50), st.sampled_from(METHODS), st.floats(0.5, 0.97), st.floats(0.5, 0.97))
@settings(max_examples=40, deadline=None)
def test_a_larger_promise_takes_nothing_out_of_a_set(seed: int, method: Method, one: float, other: float) -> None:
    q, _, others = _world(seed + 1000, 50)
    small, large = (_fit(seed, 120, coverage, method).sets(q, others) for coverage in sorted((one, other)))
    assert (small <= large).all()


@given(st.integers(0, 50), st.sampled_from(METHODS))
@settings(max_examples=30, deadline=None)
def test_an_image_has_the_same_set_alone_and_in_any_company(seed: int, method: Method) -> None:
    rule, (q, _, others) = _fit(seed, 120, 0.9, method), _world(seed + 1000, 20)
    together, order = rule.sets(q, others), np.random.default_rng(seed).permutation(20)
    assert np.array_equal(rule.sets(q[order], [others[row] for row in order]), together[order])
    assert np.array_equal(rule.sets(q[3:4], others[3:4])[0], together[3])


@given(st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_a_set_takes_the_likeliest_classes_first(seed: int) -> None:
    q, _, others = _world(seed, 40)
    for method in ("lac", "aps"):
        held = np.take_along_axis(_fit(seed + 1, 100, 0.9, method).sets(q, others), np.argsort(-q, axis=1), axis=1)
        assert (held[:, 1:] <= held[:, :-1]).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_rule_survives_being_stored(method: Method) -> None:
    rule, (q, _, others) = _fit(3, 60, 0.9, method), _world(4, 200)
    again = Conformal.of(json.loads(json.dumps(rule.record(), allow_nan=False)))
    assert np.array_equal(again.sets(q, others), rule.sets(q, others)) and again.record() == rule.record()


def test_draws_are_spread_evenly_and_belong_to_the_id() -> None:
    drawn = conformal._drawn([f"id {number}" for number in range(4000)])
    assert np.abs(np.sort(drawn) - (np.arange(4000) + 0.5) / 4000).max() < 0.03
    assert drawn[17] == conformal._drawn(["id 17"])[0]


def test_sets_are_described_as_counting_by_hand_does() -> None:
    held = np.array([[True, False], [True, True], [False, False], [False, True]])
    found = described(held, np.array([0, 1, 0, 0]), ["a", "b"])
    assert found == {"covered": 0.5, "mean_size": 1.0, "singletons": 0.5, "empty": 0.25, "per_class": {"a": pytest.approx(1 / 3), "b": 1.0}}
    assert described(held, np.zeros(4, int), ["a", "b"])["per_class"]["b"] is None


def test_risk_and_coverage_are_what_counting_by_hand_gives() -> None:
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]])
    found = risk_coverage(np.array([0, 0, 0, 1]), p)
    assert found["coverage"] == [0.25, 0.5, 0.75, 1.0]
    assert found["risk"] == pytest.approx([0, 1 / 2, 1 / 3, 1 / 4])
    assert found["aurc"] == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 4) / 4)


@given(st.integers(0, 200), st.integers(1, 4))
@settings(max_examples=50, deadline=None)
def test_images_of_equal_confidence_are_answered_together_whatever_their_order(seed: int, levels: int) -> None:
    draw = np.random.default_rng(seed)
    first = 0.5 + draw.integers(1, levels + 1, 30) / (2 * levels + 2)
    p, labels, order = np.column_stack([first, 1 - first]), draw.integers(0, 2, 30), draw.permutation(30)
    found = risk_coverage(labels, p)
    assert len(found["coverage"]) == len(np.unique(first)) and found["coverage"][-1] == 1
    assert found["risk"][-1] == pytest.approx((labels == 1).mean())
    assert risk_coverage(labels[order], p[order])["aurc"] == pytest.approx(found["aurc"])


def test_a_classifier_that_knows_when_it_errs_has_a_smaller_area_than_one_that_does_not() -> None:
    draw = np.random.default_rng(5)
    wrong, sure = np.arange(500) < 150, np.sort(0.5 + draw.random(500) / 2)
    p, orders = np.column_stack([sure, 1 - sure]), (np.arange(500), draw.permutation(500), np.arange(500)[::-1])
    knows, guesses, misleads = (risk_coverage(wrong[order].astype(int), p)["aurc"] for order in orders)
    assert knows < guesses < misleads and guesses == pytest.approx(0.3, abs=0.06)
