"""Intervals against scipy's bootstrap, exact ones against statsmodels, and how often they hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, matthews_corrcoef, roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from isograft.assess.intervals import FEWEST_GROUPS, Resampling, bca, exact, intervals
from isograft.assess.metrics import score
from isograft.assess.weighted import WeightedFigures

CLASSES = ["a", "b", "c"]


def made(
    rng: np.random.Generator, n: int = 300, groups: int | None = None, signal: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities and groups; images of one group share their class and half of their noise."""
    owner = np.arange(n) if groups is None else rng.integers(0, groups, n)
    owner = np.unique(owner, return_inverse=True)[1]
    labels = rng.integers(0, 3, owner.max() + 1)[owner]
    logits = rng.normal(size=(n, 3)) + rng.normal(size=(owner.max() + 1, 3))[owner]
    logits[np.arange(n), labels] += 2
    p = np.exp(logits)
    return labels, p / p.sum(1, keepdims=True), owner


def test_with_all_weights_one_the_figures_are_those_of_score(rng: np.random.Generator) -> None:
    labels, p, owner = made(rng, groups=120)
    p = p.round(1) + 1e-3  # ties
    p /= p.sum(1, keepdims=True)
    figures = WeightedFigures(labels, p, CLASSES, owner)
    expected = score(labels, p, CLASSES, owner)
    for name, value in zip(figures.names, figures(np.ones((1, figures.groups)))[0], strict=True):
        of, figure = name.rpartition(".")[0].removeprefix("per_class."), name.rpartition(".")[2]
        assert value == pytest.approx(expected["per_class"][of][figure] if of else expected[figure], abs=1e-12), name


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_a_weight_is_the_same_as_repeating_the_group(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    labels, p, owner = made(rng, n=40, groups=15)
    if ties:
        p = p.round(1) + 1e-2
        p /= p.sum(1, keepdims=True)
    weights = rng.integers(0, 4, owner.max() + 1)
    rows = np.repeat(np.arange(len(labels)), weights[owner])
    if len(set(labels[rows])) < 3:
        return
    figures = WeightedFigures(labels, p, CLASSES, owner)
    found = dict(zip(figures.names, figures(weights[None].astype(float))[0], strict=True))
    y, q = labels[rows], p[rows]
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(y, q.argmax(1)))
    assert found["macro_f1"] == pytest.approx(f1_score(y, q.argmax(1), average="macro"))
    assert found["mcc"] == pytest.approx(matthews_corrcoef(y, q.argmax(1)))
    for k, name in enumerate(CLASSES):
        assert found[f"per_class.{name}.roc_auc"] == pytest.approx(roc_auc_score(y == k, q[:, k]))
        assert found[f"per_class.{name}.pr_auc"] == pytest.approx(average_precision_score(y == k, q[:, k]))


def test_the_bootstrap_is_scipys_where_both_draw_single_images(rng: np.random.Generator) -> None:
    values = rng.exponential(size=80)  # skewed, so that the correction shows
    theirs = bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(1)).confidence_interval
    weights = Resampling(np.arange(80), np.zeros(80, int), True).bootstrap(20_000, 0)
    left_out = np.array([np.delete(values, row).mean() for row in range(80)])
    ours = bca(values.mean(), weights @ values / 80, left_out)
    assert ours is not None and ours["method"] == "BCa"
    assert (ours["low"], ours["high"]) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_blocks_of_groups_correct_the_skew_as_single_groups_do(rng: np.random.Generator) -> None:
    values = rng.exponential(size=2000)
    drawn = Resampling(np.arange(2000), np.zeros(2000, int), True)
    weights = drawn.jackknife()
    assert weights.shape == (200, 2000) and (weights == 0).sum() == 2000
    blocks = (weights @ values) / weights.sum(1)
    pulls = [left.mean() - left for left in (blocks, np.array([np.delete(values, row).mean() for row in range(2000)]))]
    skew = [float((pull**3).sum() / (6 * (pull**2).sum() ** 1.5)) for pull in pulls]
    assert skew[0] == pytest.approx(skew[1], rel=0.35)


def test_a_draw_keeps_the_number_of_groups_of_every_class(rng: np.random.Generator) -> None:
    labels, _, owner = made(rng, groups=90)
    drawn = Resampling.of(labels, owner, 3)
    weights = drawn.bootstrap(50, 0)
    for stratum in range(3):
        assert (weights[:, drawn.stratum == stratum].sum(1) == (drawn.stratum == stratum).sum()).all()


@pytest.mark.parametrize(("hits", "total"), [(0, 12), (5, 12), (12, 12), (1, 400)])
def test_exact_intervals_are_clopper_and_pearsons(hits: int, total: int) -> None:
    found = exact(hits, total)
    assert (found["low"], found["high"]) == pytest.approx(proportion_confint(hits, total, method="beta"), abs=1e-9)


def test_ungrouped_proportions_are_exact_and_the_rest_is_drawn(rng: np.random.Generator) -> None:
    labels, p, _ = made(rng)
    found = intervals(labels, p, CLASSES, resamples=300)["figures"]
    assert {found[name]["method"] for name in ("accuracy", "per_class.a.recall", "per_class.b.precision", "per_class.c.specificity")} == {
        "exact"
    }
    assert {found[name]["method"] for name in ("macro_f1", "macro_roc_auc", "brier", "mcc")} == {"BCa"}
    right = int((p.argmax(1) == labels).sum())
    assert (found["accuracy"]["low"], found["accuracy"]["high"]) == pytest.approx(proportion_confint(right, 300, method="beta"))


def test_a_perfect_recall_on_few_patients_is_not_certain(rng: np.random.Generator) -> None:
    labels = np.repeat(np.arange(3), 40)
    owner = np.arange(120) // 2
    found = intervals(labels, np.eye(3)[labels] * 0.9 + 1 / 30, CLASSES, owner, resamples=200)
    recall = found["figures"]["per_class.a.recall"]
    assert recall == exact(20, 20) and recall["low"] < 0.85
    assert "no certainty" in found["reasons"]["macro_f1"] and "macro_f1" not in found["figures"]


def test_too_few_patients_give_a_reason_and_no_interval(rng: np.random.Generator) -> None:
    labels, p, owner = made(rng, n=90, groups=60)
    rare = np.isin(owner, np.unique(owner[labels == 2])[: FEWEST_GROUPS - 1]) | (labels != 2)
    labels, p, owner = labels[rare], p[rare], owner[rare]
    found = intervals(labels, p, CLASSES, owner, resamples=100)
    groups = len(set(owner[labels == 2]))
    assert f"class 'c' has {groups} groups" in found["reasons"]["per_class.c.roc_auc"]
    assert f"class 'c' has {groups} groups" in found["reasons"]["macro_f1"]
    assert "per_class.a.roc_auc" in found["figures"] and "accuracy" in found["figures"]


def test_every_defined_figure_has_an_interval_or_a_reason(rng: np.random.Generator) -> None:
    labels, p, owner = made(rng, n=60, groups=30)
    figures = WeightedFigures(labels, p, CLASSES, owner)
    found = intervals(labels, p, CLASSES, owner, resamples=100)
    defined = {name for name, value in zip(figures.names, figures(np.ones((1, figures.groups)))[0], strict=True) if not np.isnan(value)}
    assert found["figures"].keys() | found["reasons"].keys() == defined
    assert not found["figures"].keys() & found["reasons"].keys()


def test_the_same_seed_gives_the_same_ends(rng: np.random.Generator) -> None:
    labels, p, owner = made(rng, groups=100)
    assert intervals(labels, p, CLASSES, owner, resamples=100) == intervals(labels, p, CLASSES, owner, resamples=100)


def test_intervals_over_patients_hold_the_truth_and_intervals_over_images_do_not() -> None:
    """Sixty patients of six images each, whose noise they share: the promised 95 % against what single images would claim."""
    truth = np.random.default_rng(123)
    names = ("accuracy", "macro_f1", "macro_roc_auc")
    labels, p, owner = _patients(truth, 40_000)
    true = score(labels, p, CLASSES)
    hits = {True: np.zeros(3), False: np.zeros(3)}
    worlds = 60
    for world in range(worlds):
        labels, p, owner = _patients(np.random.default_rng(world), 60)
        for grouped in (True, False):
            found = intervals(labels, p, CLASSES, owner if grouped else None, resamples=300)["figures"]
            hits[grouped] += [found[name]["low"] <= true[name] <= found[name]["high"] for name in names]
    assert (hits[True] / worlds >= 0.85).all(), hits
    assert (hits[False] / worlds < hits[True] / worlds - 0.1).all(), hits


def _patients(rng: np.random.Generator, patients: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    owner = np.repeat(np.arange(patients), 6)
    labels = (np.arange(patients) % 3)[owner]
    logits = rng.normal(size=(patients, 3))[owner] * 1.2 + rng.normal(size=(len(owner), 3)) * 0.4
    logits[np.arange(len(owner)), labels] += 1.0
    p = np.exp(logits)
    return labels, p / p.sum(1, keepdims=True), owner


def test_the_calibration_error_of_a_perfect_model_may_be_zero_and_that_of_a_bad_one_may_not() -> None:
    """Percentiles of resamples never reach zero, since chance alone makes a distance in each bin."""
    perfect = wrong = 0
    for world in range(40):
        rng = np.random.default_rng(world)
        confidence, called = rng.uniform(0.5, 1, 400), rng.integers(0, 2, 400)
        p = np.where(called[:, None] == [[0, 1]], confidence[:, None], 1 - confidence[:, None])
        labels = np.where(rng.random(400) < confidence, called, 1 - called)
        perfect += intervals(labels, p, ["a", "b"], resamples=200)["figures"]["ece"]["low"] == 0
        labels = np.where(rng.random(400) < confidence - 0.2, called, 1 - called)
        found = intervals(labels, p, ["a", "b"], resamples=200)["figures"]["ece"]
        wrong += 0 < found["low"] <= 0.2 <= found["high"]
    assert perfect >= 35 and wrong >= 31


def test_where_nothing_varies_but_not_all_are_right_there_is_no_interval(rng: np.random.Generator) -> None:
    """Every patient has one hit and one miss: their groups are neither all hits nor all misses."""
    labels = np.repeat([0, 1, 2], 40)
    called = np.where(np.arange(120) % 2 == 0, labels, (labels + 1) % 3)
    found = intervals(labels, np.eye(3)[called] * 0.9 + 1 / 30, CLASSES, np.arange(120) // 2, resamples=100)
    assert "per_class.a.recall" not in found["figures"] and "no certainty" in found["reasons"]["per_class.a.recall"]
