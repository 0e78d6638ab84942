"""Means over overlapping repeats, and what they are worth."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from isograft.assess.comparison import holm
from isograft.study.statistics import FEWEST_GROUPS, FEWEST_REPEATS, TRAINED, estimate, spread, standard_error


def _study(seed: int, repeats: int = 5, groups: int = 30):
    draw = np.random.default_rng(seed)
    shares = draw.normal(size=(repeats, groups)) * (draw.random((repeats, groups)) < 0.4) * 0.02
    return draw.normal(0.05, 0.03, repeats), shares


def test_what_is_only_rounding_is_no_difference() -> None:
    draw = np.random.default_rng(0)
    found = estimate(draw.normal(0, 1e-16, 5), draw.normal(0, 1e-17, (5, 40)))
    assert (found.value, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_repeats_that_share_no_group_have_the_standard_error_of_independent_values() -> None:
    values = np.random.default_rng(1).normal(size=5)
    shares = np.zeros((5, 50))
    for repeat in range(5):
        shares[repeat, 10 * repeat : 10 * repeat + 10] = 0.01
    error, freedom = standard_error(spread(values, shares), 5)
    assert error == pytest.approx(stats.sem(values))
    assert freedom == pytest.approx(4, rel=1e-3)


def test_what_all_repeats_test_alike_does_not_shrink_with_their_number() -> None:
    share = np.random.default_rng(2).normal(size=40) * 0.02
    errors = [estimate(np.full(repeats, 0.1), np.tile(share, (repeats, 1))).error for repeats in (3, 10, 100)]
    assert errors == pytest.approx([np.sqrt((1 + TRAINED) * (share**2).sum())] * 3)


def test_the_variance_is_that_of_the_formula_computed_pair_by_pair() -> None:
    values, shares = _study(3)
    pairs = [(r, s) for r in range(5) for s in range(5) if r != s]
    shared = sum(sum(shares[r, g] * shares[s, g] for g in range(30)) for r, s in pairs) / len(pairs)
    own = sum(sum(shares[r, g] ** 2 for g in range(30)) for r in range(5)) / 5
    between = sum((value - sum(values) / 5) ** 2 for value in values) / 4
    tested = sum(sum(shares[r, g] for r in range(5)) ** 2 for g in range(30)) / 25
    variance = tested + TRAINED * max(0, shared) + max(0, between - (own - shared)) / 5
    assert estimate(values, shares).error == pytest.approx(np.sqrt(variance))


def test_interval_and_p_value_are_those_of_scipys_t_distribution() -> None:
    found = estimate(*_study(4))
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, found.freedom, found.value, found.error))
    assert found.p == pytest.approx(2 * (1 - stats.t.cdf(abs(found.value / found.error), found.freedom)))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_an_estimate_does_not_depend_on_order_and_turns_round_with_the_sign(seed: int) -> None:
    values, shares = _study(seed)
    draw = np.random.default_rng(seed)
    rows, columns = draw.permutation(5), draw.permutation(30)
    found, mixed, turned = estimate(values, shares), estimate(values[rows], shares[rows][:, columns]), estimate(-values, -shares)
    assert (mixed.value, mixed.low, mixed.p) == pytest.approx((found.value, found.low, found.p))
    assert (turned.value, turned.low, turned.p) == pytest.approx((-found.value, -found.high, found.p))
    assert (found.low > 0 or found.high < 0) == (found.p < 0.05)


def test_a_difference_carried_by_two_groups_is_trusted_less_than_one_carried_by_all() -> None:
    alone = np.zeros((5, 30))
    alone[:, :2] = [0.1, -0.1]
    even = np.full((5, 30), np.sqrt(0.02 / 30))
    values = np.full(5, 0.4)
    assert estimate(values, alone).error == pytest.approx(estimate(values, even).error)
    assert estimate(values, alone).p > 3 * estimate(values, even).p


def test_too_few_repeats_or_groups_and_undefined_shares_give_a_mean_without_an_interval() -> None:
    values, shares = _study(5)
    few_groups = estimate(values, shares[:, : FEWEST_GROUPS - 1])
    few_repeats = estimate(values[: FEWEST_REPEATS - 1], shares[: FEWEST_REPEATS - 1])
    undefined = estimate(values, np.where(shares == shares.max(), np.nan, shares))
    assert [one.p for one in (few_groups, few_repeats, undefined)] == [None] * 3
    assert few_groups.value == pytest.approx(values.mean())
    assert np.isnan(estimate([], np.zeros((0, 20))).value)


def test_arms_that_answer_alike_differ_by_nothing_for_sure() -> None:
    found = estimate(np.zeros(5), np.zeros((5, 30)))
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=7), st.floats(0.001, 0.5))
def test_holms_p_values_reject_what_his_stepwise_procedure_rejects(p: list[float], level: float) -> None:
    rejected: set[int] = set()
    for rank, place in enumerate(sorted(range(len(p)), key=lambda k: p[k])):
        if p[place] * (len(p) - rank) > level:
            break
        rejected.add(place)
    assert {place for place, value in enumerate(holm(p)) if value is not None and value <= level} == rejected


def test_comparisons_without_a_p_value_are_not_corrected_for() -> None:
    assert holm([0.01, None, 0.03]) == [0.02, None, 0.03]


@pytest.mark.parametrize("name", ["few groups", "a rare class"])
def test_intervals_cover_and_verdicts_seldom_err_when_arms_are_equal(coverage: ModuleType, name: str) -> None:
    (world,) = [world for world in coverage.WORLDS if world.name == name]
    for row in coverage.measure(world, studies=250, jobs=1):
        assert 0.92 <= row["covered"] <= 0.98, row
        assert row["claimed"] <= 0.06, row
        assert row["naive"] < 0.92, row  # repeats taken for independent: what this is needed for


def test_intervals_cover_a_difference_that_is_there(coverage: ModuleType) -> None:
    (world,) = [world for world in coverage.WORLDS if world.name == "some groups, second arm better"]
    rows = coverage.measure(world, studies=250, jobs=1)
    assert rows[0]["difference"] > 0.02
    for row in rows:
        assert 0.92 <= row["covered"] <= 0.98, row
        assert row["wrong"] <= 0.01, row


def test_statistics_do_not_import_torch() -> None:
    code = "import sys; from isograft.study import report; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_a_perfect_score_on_few_patients_is_no_certainty_and_equal_answers_are() -> None:
    nothing_varies = np.zeros((3, 20))
    perfect = estimate([1.0, 1.0, 1.0], nothing_varies)
    assert (perfect.value, perfect.groups, perfect.low, perfect.high, perfect.p) == (1.0, 20, None, None, None)
    equal = estimate([0.0, 0.0, 0.0], nothing_varies)
    assert (equal.low, equal.high, equal.p) == (0.0, 0.0, 1.0)
