"""How many labels the baseline needs to match an arm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isograft.study.comparison import compare
from isograft.study.folder import StudyFolder
from isograft.study.labels_needed import crossing, labels_needed
from isograft.study.runs import Runs

SCOPE = ("resnet18", "clean", "lesions")


def test_a_falling_curve_is_zero_where_numpy_interpolates_it_over_the_logarithm() -> None:
    labels, gaps = [10, 25, 50, 100], [0.08, 0.05, -0.01, -0.04]
    expected = np.exp(np.interp(0, gaps[::-1], np.log(labels)[::-1]))
    assert crossing(labels, gaps) == pytest.approx(expected)


def test_a_curve_that_rises_in_between_is_made_falling_first() -> None:
    level = (-0.01 + 0.02) / 2  # the mean of the two that are out of order
    expected = np.exp(np.interp(0, [-0.03, level], np.log([100, 50])))
    assert crossing([10, 25, 50, 100], [0.02, -0.01, 0.02, -0.03]) == pytest.approx(expected)


def test_a_curve_that_stays_above_zero_crosses_nowhere_and_one_that_starts_below_at_once() -> None:
    assert crossing([10, 20], [0.3, 0.1]) is None
    assert crossing([10, 20], [-0.1, -0.3]) == pytest.approx(10)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=6))
def test_a_crossing_lies_inside_the_labels_tried(gaps: list[float]) -> None:
    labels = np.cumsum(np.arange(1, len(gaps) + 1)) * 5.0
    found = crossing(labels, gaps)
    assert found is None or labels[0] - 1e-9 <= found <= labels[-1] + 1e-9


@pytest.fixture(scope="module")
def runs(fabricate: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """An arm that is ahead by what about five times the labels bring the others."""
    skill = {"scratch": -0.2, "imagenet": -0.2, "in-domain": 0.15}
    folder = fabricate(tmp_path_factory.mktemp("labels") / "s", skill=skill, groups=400, budgets=(5, 25, 125), repeats=6)
    return Runs.read(StudyFolder.read(folder), SCOPE)


def test_a_saving_is_found_where_the_arms_differ_and_its_interval_holds_it(runs: Runs) -> None:
    comparison = next(one for one in compare(runs, ["scratch"], "macro_f1") if one.arm == "in-domain")
    first = labels_needed(runs, comparison, "macro_f1")[0]
    assert (first.better, first.worse, first.budget, first.most) == ("in-domain", "scratch", 5, 125)
    assert first.needed is not None and 25 < first.needed < 125  # exp(0.35 / 0.15) = 10 times the labels
    assert first.given < first.low < first.needed < (first.high or 126)


def test_nothing_is_said_where_the_arms_do_not_differ(runs: Runs) -> None:
    comparison = next(one for one in compare(runs, ["scratch"], "macro_f1") if one.arm == "imagenet")
    assert labels_needed(runs, comparison, "macro_f1") == []


def test_a_worse_arm_is_the_one_that_needs_more(runs: Runs) -> None:
    comparison = next(one for one in compare(runs, ["in-domain"], "macro_f1") if one.arm == "scratch")
    assert comparison.overall.value < 0
    assert {(one.better, one.worse) for one in labels_needed(runs, comparison, "macro_f1")} == {("in-domain", "scratch")}
