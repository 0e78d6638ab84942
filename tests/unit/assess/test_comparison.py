"""Comparisons against statsmodels, against the definitions of DeLong and Obuchowski counted pair by pair, and worked examples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from isograft.assess.comparison import COMPARED, compare, delong, holm, mcnemar
from isograft.assess.metrics import score

ALONE = np.arange


def by_pairs(positive: np.ndarray, scores: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Area and DeLong's structural components by their definition, every pair counted."""
    wins = np.array([[1.0 if x > y else 0.5 if x == y else 0.0 for y in scores[~positive]] for x in scores[positive]])
    return wins.mean(), wins.mean(axis=1), wins.mean(axis=0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_ungrouped_areas_and_covariances_are_delongs_by_definition(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    positive = np.arange(30) < rng.integers(3, 27)
    scores = rng.normal(size=(2, 30)) + positive
    scores = scores.round() if ties else scores
    found = delong(positive, scores[0], scores[1], ALONE(30))
    parts = [by_pairs(positive, one) for one in scores]
    assert found.areas == pytest.approx([roc_auc_score(positive, one) for one in scores])
    m, n = positive.sum(), (~positive).sum()
    expected = np.cov([parts[0][1], parts[1][1]]) / m + np.cov([parts[0][2], parts[1][2]]) / n
    np.testing.assert_allclose(found.covariance, expected, atol=1e-12)
    variance = expected[0, 0] + expected[1, 1] - 2 * expected[0, 1]
    if variance > 1e-12:
        assert found.p == pytest.approx(2 * norm.sf(abs(found.areas[0] - found.areas[1]) / np.sqrt(variance)))


def test_a_small_example_worked_by_hand() -> None:
    """Two sick (scores 0.8, 0.4) and two healthy (0.6, 0.2): of four pairs three are won, so that the area is 3/4.

    The sick win 1 and 1/2 of their pairs, the healthy lose 1/2 and 1: both sample variances are 1/8, so that of the area is 1/8/2 + 1/8/2.
    """
    positive = np.array([True, True, False, False])
    found = delong(positive, np.array([0.8, 0.4, 0.6, 0.2]), np.array([0.9, 0.7, 0.2, 0.1]), ALONE(4))
    assert found.areas.tolist() == [0.75, 1.0]
    assert found.covariance[0, 0] == pytest.approx(1 / 8) and found.covariance[1, 1] == 0


def test_grouped_covariance_is_obuchowskis_by_definition(rng: np.random.Generator) -> None:
    owner = np.sort(rng.integers(0, 12, 60))
    owner = np.unique(owner, return_inverse=True)[1]
    positive = rng.random(60) < 0.4
    scores = rng.normal(size=(2, 60)) + positive + rng.normal(size=12)[owner] * 0.5
    found = delong(positive, scores[0], scores[1], owner)
    groups, m, n = owner.max() + 1, positive.sum(), (~positive).sum()
    sums = []
    for one in scores:
        area, of_positives, of_negatives = by_pairs(positive, one)
        x = np.array([(of_positives[owner[positive] == g] - area).sum() for g in range(groups)])
        y = np.array([(of_negatives[owner[~positive] == g] - area).sum() for g in range(groups)])
        sums.append((x, y))
    with_x, with_y = (len(set(owner[kind])) for kind in (positive, ~positive))
    for a in range(2):
        for b in range(2):
            s10 = with_x / ((with_x - 1) * m) * (sums[a][0] * sums[b][0]).sum()
            s01 = with_y / ((with_y - 1) * n) * (sums[a][1] * sums[b][1]).sum()
            s11 = groups / (groups - 1) * (sums[a][0] * sums[b][1]).sum()
            s11_turned = groups / (groups - 1) * (sums[b][0] * sums[a][1]).sum()
            assert found.covariance[a, b] == pytest.approx(s10 / m + s01 / n + (s11 + s11_turned) / (m * n))


def test_clusters_that_only_repeat_an_image_widen_the_variance(rng: np.random.Generator) -> None:
    positive = np.arange(80) < 40
    scores = rng.normal(size=(2, 80)) + positive
    alone = delong(positive, scores[0], scores[1], ALONE(80))
    five = delong(np.repeat(positive, 5), np.repeat(scores[0], 5), np.repeat(scores[1], 5), np.repeat(ALONE(80), 5))
    np.testing.assert_allclose(five.covariance, alone.covariance, rtol=1e-9)
    as_images = delong(np.repeat(positive, 5), np.repeat(scores[0], 5), np.repeat(scores[1], 5), ALONE(400))
    assert as_images.covariance[0, 0] < 0.25 * five.covariance[0, 0]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 10))
def test_ungrouped_answers_are_compared_by_mcnemars_exact_test(only_a: int, only_b: int, both: int) -> None:
    right_a = np.r_[np.ones(only_a), np.zeros(only_b), np.ones(both)].astype(bool)
    right_b = np.r_[np.zeros(only_a), np.ones(only_b), np.ones(both)].astype(bool)
    if len(right_a) == 0:
        return
    theirs = statsmodels_mcnemar([[both, only_a], [only_b, 0]], exact=True).pvalue
    assert mcnemar(right_a, right_b, ALONE(len(right_a))) == pytest.approx(min(1.0, theirs))


def test_the_approval_ratings_of_agresti() -> None:
    """Categorical Data Analysis, table 10.1: 150 and 86 changed their mind, z = 4.17 by the large-sample test."""
    right_a = np.r_[np.ones(150), np.zeros(86), np.ones(794), np.zeros(570)].astype(bool)
    right_b = np.r_[np.zeros(150), np.ones(86), np.ones(794), np.zeros(570)].astype(bool)
    p = mcnemar(right_a, right_b, ALONE(1600))
    assert p == pytest.approx(3.72e-5, rel=0.01)
    assert p == pytest.approx(2 * norm.sf(4.17), rel=0.4)


def test_the_grouped_test_counts_every_change_of_signs(rng: np.random.Generator) -> None:
    owner = np.repeat(np.arange(7), 4)
    right = rng.random((2, 28)) < 0.6
    difference = np.array([int(right[0][owner == g].sum()) - int(right[1][owner == g].sum()) for g in range(7)])
    sums = [sum(d * s for d, s in zip(difference, [1 if code >> bit & 1 else -1 for bit in range(7)], strict=True)) for code in range(128)]
    expected = np.mean([abs(one) >= abs(difference.sum()) for one in sums])
    assert mcnemar(right[0], right[1], owner) == pytest.approx(expected)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holms_adjustment_is_statsmodels(p: list[float]) -> None:
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def made(rng: np.random.Generator, gain: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    owner = np.repeat(np.arange(100), 2)
    labels = (np.arange(100) % 3)[owner]
    shared = rng.normal(size=(200, 3)) + rng.normal(size=(100, 3))[owner]
    found = []
    for signal in (1 + gain, 1.0):
        logits = shared + rng.normal(size=(200, 3)) * 0.7
        logits[np.arange(200), labels] += signal
        p = np.exp(logits)
        found.append(p / p.sum(1, keepdims=True))
    return labels, found[0], found[1], owner


def test_a_model_does_not_differ_from_itself(rng: np.random.Generator) -> None:
    labels, p, _, owner = made(rng, 0)
    found = compare(labels, p, p, ["a", "b", "c"], owner, resamples=100)["figures"]
    assert all(one["difference"] == 0 and one["low"] is None for one in found.values())
    assert found["accuracy"]["p"] == found["macro_f1"]["p"] == 1.0 and found["per_class.a.roc_auc"]["p"] is None


def test_differences_are_those_of_the_scores_and_turn_with_the_models(rng: np.random.Generator) -> None:
    labels, p, q, owner = made(rng, 0.8)
    classes = ["a", "b", "c"]
    ahead, behind = (compare(labels, one, other, classes, owner, resamples=200)["figures"] for one, other in ((p, q), (q, p)))
    one, other = score(labels, p, classes), score(labels, q, classes)
    for name in COMPARED:
        assert ahead[name]["difference"] == pytest.approx(one[name] - other[name])
        assert (ahead[name]["low"], ahead[name]["high"]) == pytest.approx((-behind[name]["high"], -behind[name]["low"]), abs=0.02)
        assert ahead[name]["p"] == pytest.approx(behind[name]["p"], abs=1e-9)
    assert ahead["macro_roc_auc"]["low"] > 0 and ahead["accuracy"]["p_holm"] >= ahead["accuracy"]["p"]


def test_equal_models_are_told_apart_about_as_rarely_as_promised() -> None:
    worlds, false = 60, {"interval": 0, "delong": 0, "mcnemar": 0, "exchange": 0}
    for world in range(worlds):
        labels, p, q, owner = made(np.random.default_rng(1000 + world), 0.0)
        found = compare(labels, p, q, ["a", "b", "c"], owner, resamples=200)["figures"]
        false["interval"] += not found["macro_roc_auc"]["low"] <= 0 <= found["macro_roc_auc"]["high"]
        false["delong"] += found["per_class.a.roc_auc"]["p"] < 0.05
        false["exchange"] += found["macro_f1"]["p"] < 0.05
        false["mcnemar"] += found["accuracy"]["p"] < 0.05
    assert all(count <= 9 for count in false.values()), false  # 3 expected; 10 has a chance of 1 in 1000


def test_the_ct_ratings_of_hanley_and_mcneil() -> None:
    """Radiology 1982, 143:29, table 1: 58 normal and 51 abnormal patients rated 1 to 5. Area .893; standard error after DeLong .0307."""
    normal, abnormal = np.repeat(np.arange(1, 6), [33, 6, 6, 11, 2]), np.repeat(np.arange(1, 6), [3, 2, 2, 11, 33])
    scores, positive = np.r_[abnormal, normal].astype(float), np.arange(109) < 51
    found = delong(positive, scores, scores, ALONE(109))
    assert found.areas[0] == pytest.approx(0.8932, abs=5e-5)
    assert np.sqrt(found.covariance[0, 0]) == pytest.approx(0.0307, abs=5e-5)
