"""Thresholds and what they do: against scikit-learn and every other threshold, by laws, and against counts published or done by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from isograft.assess.operating import (
    SENSITIVITY,
    SPECIFICITY,
    Measure,
    Wanted,
    at_prevalence,
    choose_threshold,
    counts_at,
    decision_curve,
    parse_point,
    ratios,
    wanted_points,
)
from isograft.errors import IsograftError

CLASSES = ["mel", "seborrhoeic keratosis", "nv"]
PROBABILITY = st.one_of(st.integers(0, 8).map(lambda eighths: eighths / 8), st.floats(0, 1))
SCORED = st.lists(st.tuples(PROBABILITY, st.booleans()), min_size=2, max_size=40).filter(
    lambda rows: 0 < sum(y for _, y in rows) < len(rows)
)


def _arrays(rows: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([s for s, _ in rows]), np.array([y for _, y in rows])


def _shares(scores: np.ndarray, positive: np.ndarray, threshold: float) -> dict[str, float]:
    return {
        SENSITIVITY: float((scores[positive] >= threshold).mean()),
        SPECIFICITY: float((scores[~positive] < threshold).mean()),
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("screening: mel sensitivity >= 0.95", Wanted("screening", "mel", SENSITIVITY, 0.95)),
        (" first look :seborrhoeic keratosis  specificity≥.9 ", Wanted("first look", "seborrhoeic keratosis", SPECIFICITY, 0.9)),
        ("all: nv sensitivity >= 1", Wanted("all", "nv", SENSITIVITY, 1.0)),
    ],
)
def test_a_point_is_read_whatever_the_spaces_and_the_sign(text: str, expected: Wanted) -> None:
    assert parse_point(text, CLASSES) == expected


@pytest.mark.parametrize("share", [0.5, 0.9, 0.95, 0.999, 1.0])
def test_a_points_rule_reads_back_as_the_point(share: float) -> None:
    point = Wanted("a b", "seborrhoeic keratosis", SPECIFICITY, share)
    assert parse_point(f"{point.name}: {point.of} {point.rule}", CLASSES) == point


@pytest.mark.parametrize(
    "text",
    [
        "mel sensitivity >= 0.95",
        "screening: mel sensitivity 0.95",
        "screening: mel accuracy >= 0.95",
        "screening: sensitivity >= 0.95",
        "screening: mel sensitivity > 0.95",
        "screening: mel sensitivity >= 0",
        "screening: mel sensitivity >= 1.01",
        "screening: mel sensitivity >= 0.9.5",
        "screening: mel sensitivity >= high",
        "",
    ],
)
def test_text_of_another_form_gets_a_sentence_that_shows_the_form(text: str) -> None:
    with pytest.raises(IsograftError, match=r"write for example 'screening: melanoma sensitivity >= 0.95'"):
        parse_point(text, CLASSES)


@pytest.mark.parametrize("text", ["a: mel sensitivity >= 95 %", "a: mel sensitivity >= 0.95 %", "a: mel sensitivity >= 95"])
def test_per_cent_are_not_taken_for_a_share(text: str) -> None:
    with pytest.raises(IsograftError, match="a share above 0 and at most 1"):
        parse_point(text, CLASSES)


def test_an_unknown_class_is_named_beside_the_known_ones() -> None:
    with pytest.raises(IsograftError, match=r"names the class 'melanoma'; the classes are mel, seborrhoeic keratosis, nv"):
        parse_point("screening: melanoma sensitivity >= 0.95", CLASSES)


def test_every_class_can_be_ruled_out_and_in_after_what_was_asked_for() -> None:
    points = wanted_points(["screening: mel sensitivity >= 0.9"], ["mel", "nv"])
    assert [(one.name, one.rule, one.by_hand) for one in points] == [
        ("screening", "sensitivity >= 0.9", True),
        ("rule out mel", "sensitivity >= 0.95", False),
        ("rule in mel", "specificity >= 0.95", False),
        ("rule out nv", "sensitivity >= 0.95", False),
        ("rule in nv", "specificity >= 0.95", False),
    ]


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (["a: mel sensitivity >= 0.9", "a: nv sensitivity >= 0.9"], "the name 'a' comes twice"),
        (["rule in nv: mel sensitivity >= 0.9"], "the name 'rule in nv' is the name of a point that every model has"),
    ],
)
def test_no_two_points_have_one_name(texts: list[str], why: str) -> None:
    with pytest.raises(IsograftError, match=why):
        wanted_points(texts, CLASSES)


@given(SCORED, st.sampled_from([SENSITIVITY, SPECIFICITY]), st.floats(0.01, 1))
@settings(max_examples=100, deadline=None)
def test_a_threshold_reaches_what_was_asked_and_none_does_so_with_more_of_the_other(
    rows: list[tuple[float, bool]], measure: Measure, at_least: float
) -> None:
    scores, positive = _arrays(rows)
    threshold = choose_threshold(scores, positive, measure, at_least)
    assert threshold is not None
    other = SPECIFICITY if measure == SENSITIVITY else SENSITIVITY
    reached = _shares(scores, positive, threshold)
    assert reached[measure] >= at_least - 1e-9
    rivals = [_shares(scores, positive, t) for t in [*np.unique(scores), 2.0]]
    assert reached[other] == max(one[other] for one in rivals if one[measure] >= at_least - 1e-9)


@given(SCORED, st.sampled_from([SENSITIVITY, SPECIFICITY]), st.floats(0.01, 1))
@settings(max_examples=100, deadline=None)
def test_a_threshold_lies_midway_between_the_scores_it_parts(rows: list[tuple[float, bool]], measure: Measure, at_least: float) -> None:
    scores, positive = _arrays(rows)
    threshold = choose_threshold(scores, positive, measure, at_least)
    below, above = scores[scores < threshold].max(initial=0.0), scores[scores >= threshold].min(initial=1.0)
    assert threshold == pytest.approx((below + above) / 2, abs=1e-15)


@given(SCORED, st.sampled_from([0.5, 0.8, 0.95]))
@settings(deadline=None)
def test_of_two_classes_ruling_one_out_is_ruling_the_other_in(rows: list[tuple[float, bool]], share: float) -> None:
    scores, positive = _arrays([(round(s * 64) / 64, y) for s, y in rows])
    out = choose_threshold(scores, positive, SENSITIVITY, share)
    assert out is not None
    into = choose_threshold(1 - scores, ~positive, SPECIFICITY, share)
    assert into == pytest.approx(1 - out, abs=1e-12)


def test_a_threshold_has_the_shares_scikit_learns_roc_curve_gives() -> None:
    draw = np.random.default_rng(0)
    positive = draw.random(300) < 0.3
    scores = np.round(np.clip(0.3 * positive + draw.normal(0.4, 0.2, 300), 0, 1), 2)
    alarms, hits, _ = oracle.roc_curve(positive, scores, drop_intermediate=False)
    counts = counts_at(scores, positive, choose_threshold(scores, positive, SENSITIVITY, 0.95))
    assert counts["tp"] / positive.sum() == hits[hits >= 0.95].min()
    assert counts["fp"] / (~positive).sum() == pytest.approx(alarms[hits >= 0.95].min())


def test_a_wanted_specificity_is_reached_even_against_a_false_certainty() -> None:
    scores, positive = np.array([0.2, 1.0, 1.0]), np.array([False, False, True])
    threshold = choose_threshold(scores, positive, SPECIFICITY, 1.0)
    assert counts_at(scores, positive, threshold) == {"tp": 0, "fp": 0, "tn": 2, "fn": 1}


def test_neighbouring_floating_point_numbers_are_still_parted() -> None:
    low = 0.5
    high = float(np.nextafter(low, 1))
    assert choose_threshold(np.array([low, high]), np.array([False, True]), SENSITIVITY, 1.0) == high


def test_without_an_image_of_the_kind_there_is_no_threshold() -> None:
    scores = np.array([0.1, 0.9])
    assert choose_threshold(scores, np.array([False, False]), SENSITIVITY, 0.9) is None
    assert choose_threshold(scores, np.array([True, True]), SPECIFICITY, 0.9) is None


def test_the_textbook_figures_of_serum_ferritin_come_out() -> None:
    """The worked example of Sackett et al., Evidence-Based Medicine: low in 731 of 809 with iron deficiency, 270 of 1,770 without."""
    found = {name: float(value) for name, value in ratios(*np.array([731.0, 270.0, 1500.0, 78.0])).items()}
    assert found == pytest.approx(
        {"sensitivity": 0.904, "specificity": 0.847, "ppv": 0.730, "npv": 0.951, "lr_positive": 5.92, "lr_negative": 0.114}, abs=0.005
    )


def test_figures_without_a_denominator_are_undefined() -> None:
    found = ratios(*np.array([3.0, 0.0, 5.0, 0.0]))
    assert [name for name, value in found.items() if np.isnan(value)] == ["lr_positive"] and found["lr_negative"] == 0


@given(st.integers(1, 50), st.integers(0, 50), st.integers(1, 50), st.integers(0, 50))
@settings(deadline=None)
def test_bayes_at_the_prevalence_of_the_test_gives_the_predictive_values_of_the_test(tp: int, fp: int, tn: int, fn: int) -> None:
    found = ratios(*np.array([tp, fp, tn, fn], dtype=float))
    values = at_prevalence(float(found["sensitivity"]), float(found["specificity"]), (tp + fn) / (tp + fp + tn + fn))
    assert values == pytest.approx({"ppv": tp / (tp + fp), "npv": tn / (tn + fn)})


@given(st.floats(0.05, 0.99), st.floats(0.05, 0.99), st.floats(0.01, 0.99))
@settings(deadline=None)
def test_a_likelihood_ratio_turns_odds_before_the_test_into_odds_after_it(
    sensitivity: float, specificity: float, prevalence: float
) -> None:
    after = at_prevalence(sensitivity, specificity, prevalence)["ppv"]
    assert after is not None
    assert after / (1 - after) == pytest.approx(prevalence / (1 - prevalence) * sensitivity / (1 - specificity))


def test_a_call_that_is_never_made_has_no_predictive_value() -> None:
    assert at_prevalence(0.0, 1.0, 0.1) == {"ppv": None, "npv": pytest.approx(0.9)}
    assert at_prevalence(1.0, 0.0, 0.1) == {"ppv": pytest.approx(0.1), "npv": None}


def test_net_benefit_is_what_counting_by_hand_gives() -> None:
    """Ten patients, four ill. At 0.25 six are treated, three of them ill: 3/10 - 3/10 x 1/3; treating all: 4/10 - 6/10 x 1/3."""
    scores = np.array([0.9, 0.5, 0.25, 0.1, 0.8, 0.3, 0.25, 0.2, 0.1, 0.0])
    found = decision_curve(scores, np.arange(10) < 4, np.array([0.25, 0.5]))
    assert found["model"] == pytest.approx([0.2, 2 / 10 - 1 / 10])
    assert found["all"] == pytest.approx([0.2, 4 / 10 - 6 / 10])


@given(SCORED, st.floats(0.01, 0.99))
@settings(deadline=None)
def test_net_benefit_is_at_most_the_prevalence_and_that_of_treating_all_is_zero_there(rows: list[tuple[float, bool]], t: float) -> None:
    scores, positive = _arrays(rows)
    share = float(positive.mean())
    assert decision_curve(scores, positive, np.array([t]))["model"][0] <= share + 1e-12
    assert decision_curve(scores, positive, np.array([share]))["all"] == pytest.approx([0], abs=1e-12)
    lowest = np.array([min(float(scores.min()), 0.99)])
    if lowest[0] > 0:
        same = decision_curve(scores, positive, lowest)
        assert same["model"] == pytest.approx(same["all"])
