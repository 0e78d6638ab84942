"""Figures at a threshold: intervals against statsmodels, reasons for what is missing, and coverage by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import Table2x2
from statsmodels.stats.proportion import proportion_confint

from isograft.assess.operating import choose_threshold
from isograft.assess.thresholded import figures_at, log_interval

SHARES = {"sensitivity": ("tp", "fn"), "specificity": ("tn", "fp"), "ppv": ("tp", "fp"), "npv": ("tn", "fn")}


def _images(tp: int, fp: int, tn: int, fn: int) -> tuple[np.ndarray, np.ndarray]:
    scores = np.repeat([0.9, 0.9, 0.1, 0.1], [tp, fp, tn, fn])
    return scores, np.repeat([True, False, False, True], [tp, fp, tn, fn])


def test_shares_of_ungrouped_images_have_the_exact_interval_of_statsmodels() -> None:
    scores, positive = _images(17, 5, 40, 3)
    found = figures_at(scores, positive, 0.5, np.arange(65))
    for name, (hit, miss) in SHARES.items():
        hits, total = found["test"][hit], found["test"][hit] + found["test"][miss]
        assert found["test"][name] == hits / total
        low, high = proportion_confint(hits, total, method="beta")
        assert found["intervals"][name] == {"low": pytest.approx(low), "high": pytest.approx(high), "method": "exact"}


def test_likelihood_ratios_of_ungrouped_images_have_the_log_interval_of_statsmodels() -> None:
    scores, positive = _images(17, 5, 40, 3)
    found = figures_at(scores, positive, 0.5, np.arange(65))
    for name, table in (("lr_positive", [[17, 3], [5, 40]]), ("lr_negative", [[3, 17], [40, 5]])):
        expected = Table2x2(np.array(table))
        assert found["test"][name] == pytest.approx(expected.riskratio)
        low, high = expected.riskratio_confint()
        assert found["intervals"][name] == {"low": pytest.approx(low), "high": pytest.approx(high), "method": "log"}


def test_the_log_interval_of_the_ferritin_table_is_what_its_formula_gives_by_hand() -> None:
    """LR+ 5.923: SE of its logarithm = sqrt(1/731 - 1/809 + 1/270 - 1/1770) = 0.05718, so 5.295 to 6.625."""
    found = log_interval("lr_positive", tp=731, fp=270, tn=1500, fn=78)
    assert found == {"low": pytest.approx(5.295, abs=0.002), "high": pytest.approx(6.625, abs=0.002), "method": "log"}


def test_what_is_undefined_is_none_and_says_why() -> None:
    scores, positive = _images(10, 0, 20, 5)
    found = figures_at(scores, positive, 0.5, np.arange(35))
    assert found["test"]["lr_positive"] is None
    assert found["reasons"]["lr_positive"] == "no image of another class was called positive, so the ratio has no bound"
    found = figures_at(scores, positive, 0.95, np.arange(35))
    assert found["test"]["ppv"] is None and found["reasons"]["ppv"] == "no image was called positive"
    found = figures_at(scores, positive, 0.0, np.arange(35))
    assert found["reasons"]["npv"] == found["reasons"]["lr_negative"] == "every image was called positive"


def test_a_ratio_of_zero_has_a_value_but_no_interval() -> None:
    scores, positive = _images(15, 4, 20, 0)
    found = figures_at(scores, positive, 0.5, np.arange(39))
    assert found["test"]["lr_negative"] == 0 and "lr_negative" not in found["intervals"] and "lr_negative" in found["reasons"]


@pytest.mark.parametrize("grouped", [False, True])
def test_every_figure_has_an_interval_around_it_or_a_reason(grouped: bool) -> None:
    scores, positive = _images(33, 9, 80, 6)
    groups = np.arange(128) // (2 if grouped else 1)
    found = figures_at(scores, positive, 0.5, groups)
    figures = [*SHARES, "lr_positive", "lr_negative"]
    assert set(found["intervals"]) | set(found["reasons"]) == set(figures) and not set(found["intervals"]) & set(found["reasons"])
    for name, interval in found["intervals"].items():
        assert interval["low"] < found["test"][name] < interval["high"]


def test_a_perfect_sensitivity_is_no_certainty() -> None:
    scores, positive = _images(30, 4, 60, 0)
    alone = figures_at(scores, positive, 0.5, np.arange(94))["intervals"]["sensitivity"]
    groups = np.concatenate([np.arange(30) // 3, 100 + np.arange(64)])
    together = figures_at(scores, positive, 0.5, groups)["intervals"]["sensitivity"]
    assert alone["low"] == pytest.approx(proportion_confint(30, 30, method="beta")[0])
    assert together["low"] == pytest.approx(proportion_confint(10, 10, method="beta")[0]) and together["high"] == 1


def test_images_of_one_patient_that_agree_widen_the_interval() -> None:
    draw = np.random.default_rng(1)
    hit, positive = draw.random(120) < 0.8, np.arange(120) < 60
    alone = figures_at(np.where(hit == positive, 0.9, 0.1), positive, 0.5, np.arange(120))["intervals"]["sensitivity"]
    fourfold = np.repeat(np.where(hit == positive, 0.9, 0.1), 4), np.repeat(positive, 4), np.repeat(np.arange(120), 4)
    together = figures_at(fourfold[0], fourfold[1], 0.5, fourfold[2])["intervals"]["sensitivity"]
    assert together["high"] - together["low"] == pytest.approx(alone["high"] - alone["low"], rel=0.25)


def test_the_order_of_the_images_does_not_matter() -> None:
    draw = np.random.default_rng(2)
    positive, groups = draw.random(150) < 0.4, draw.integers(0, 60, 150)
    scores = np.clip(0.3 * positive + draw.normal(0.4, 0.2, 150), 0, 1)
    order = draw.permutation(150)
    first, second = figures_at(scores, positive, 0.5, groups), figures_at(scores[order], positive[order], 0.5, groups[order])
    assert first == second


def test_few_groups_give_no_interval_but_a_reason() -> None:
    scores, positive = _images(12, 9, 80, 6)
    groups = np.concatenate([np.arange(12) // 6, 10 + np.arange(89), np.arange(6) // 3])
    found = figures_at(scores, positive, 0.5, groups)
    assert "sensitivity" not in found["intervals"]
    assert found["reasons"]["sensitivity"] == "2 groups (patients or lesions) are behind it, and below 8 chance cannot be told"


def test_grouped_intervals_hold_the_true_sensitivity_about_as_often_as_they_say() -> None:
    draw, held = np.random.default_rng(3), []
    for _ in range(60):
        sizes = draw.integers(1, 4, 100)
        owner, positive = np.repeat(np.arange(100), sizes), np.repeat(np.arange(100) < 50, sizes)
        right = draw.random(len(owner)) < np.repeat(draw.beta(1.7, 0.3, 100), sizes)
        interval = figures_at(np.where(right == positive, 0.9, 0.1), positive, 0.5, owner)["intervals"]["sensitivity"]
        held.append(interval["low"] <= 0.85 <= interval["high"])
    assert np.mean(held) > 0.85


def test_a_threshold_chosen_on_the_same_images_reaches_what_was_asked() -> None:
    draw = np.random.default_rng(4)
    positive = draw.random(200) < 0.3
    scores = np.clip(0.3 * positive + draw.normal(0.4, 0.2, 200), 0, 1)
    found = figures_at(scores, positive, choose_threshold(scores, positive, "sensitivity", 0.9), np.arange(200))
    assert found["test"]["sensitivity"] >= 0.9
