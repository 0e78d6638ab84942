"""Arms against baselines, paired by split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from isograft.assess.comparison import holm
from isograft.study.comparison import compare, pairs
from isograft.study.folder import StudyFolder
from isograft.study.influence import FIGURES
from isograft.study.runs import Runs, join

SCOPE = ("resnet18", "clean", "lesions")


def test_every_arm_meets_every_baseline_and_two_baselines_meet_once() -> None:
    arms = ["scratch", "pool", "imagenet", "both"]
    assert pairs(arms, ["scratch", "imagenet"]) == [
        ("pool", "scratch"),
        ("pool", "imagenet"),
        ("imagenet", "scratch"),
        ("both", "scratch"),
        ("both", "imagenet"),
    ]
    assert pairs(["pool", "scratch"], ["scratch", "imagenet"]) == [("pool", "scratch")]


def test_means_and_differences_are_those_of_the_table_of_runs(told: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = told
    rows = pl.read_parquet(folder / "results.parquet").filter(pl.col("protocol") == "clean")
    result = summary["results"][0]
    for mean in result["means"]:
        chosen = rows.filter(pl.col("arm") == mean["arm"])
        if mean["labels_per_class"] != "mean of budgets":
            chosen = chosen.filter(pl.col("labels_per_class") == mean["labels_per_class"])
        assert [mean[name]["value"] for name in FIGURES] == pytest.approx([chosen[name].mean() for name in FIGURES])
    wide = rows.pivot("arm", index=["labels_per_class", "repeat"], values="macro_f1")
    for one in result["comparisons"]:
        gaps = wide.with_columns(gap=pl.col(one["arm"]) - pl.col(one["baseline"]))
        assert one["overall"]["value"] == pytest.approx(gaps["gap"].mean())
        for budget, single in one["by_budget"].items():
            assert single["value"] == pytest.approx(gaps.filter(pl.col("labels_per_class") == int(budget))["gap"].mean())
        per_repeat = gaps.group_by("repeat").agg(pl.col("gap").mean())["gap"]
        assert (one["wins"], one["losses"]) == ((per_repeat > 0.0005).sum(), (per_repeat < -0.0005).sum())
        assert one["wins"] + one["ties"] + one["losses"] == 5


def test_p_values_are_corrected_over_the_comparisons_of_the_task(told: tuple[Path, dict[str, Any]]) -> None:
    comparisons = told[1]["results"][0]["comparisons"]
    assert [one["adjusted"] for one in comparisons] == pytest.approx(holm([one["overall"]["p"] for one in comparisons]))
    singles = holm([single["p"] for one in comparisons for single in one["by_budget"].values()])
    assert [p for one in comparisons for p in one["adjusted_by_budget"].values()] == pytest.approx(singles)


def test_a_comparison_uses_only_the_repeats_that_have_both_sides(tmp_path: Path, fabricate: Callable[..., Path]) -> None:
    skip = [("in-domain", 10, 4), ("scratch", 0, 3)]
    folder = StudyFolder.read(fabricate(tmp_path / "s", skill={"scratch": 0.0, "in-domain": 0.5}, skip=skip))
    (one,) = compare(Runs.read(folder, SCOPE), ["scratch"], "macro_f1")
    assert one.overall.repeats == 3 and one.wins + one.ties + one.losses == 3
    assert {budget: single.repeats for budget, single in one.by_budget.items()} == {10: 4, 25: 5, 0: 4}


def test_an_arm_that_lacks_a_budget_altogether_is_compared_on_the_others(tmp_path: Path, fabricate: Callable[..., Path]) -> None:
    skip = [("in-domain", 10, repeat) for repeat in range(5)]
    folder = StudyFolder.read(fabricate(tmp_path / "s", skill={"scratch": 0.0, "in-domain": 0.5}, skip=skip))
    (one,) = compare(Runs.read(folder, SCOPE), ["scratch"], "macro_f1")
    assert one.overall.repeats == 5
    assert one.overall.value == pytest.approx((one.by_budget[25].value + one.by_budget[0].value) / 2)
    assert np.isnan(one.by_budget[10].value) and one.adjusted_by_budget[10] is None


def test_protocols_side_by_side_keep_their_values_and_the_groups_of_both(told: tuple[Path, dict[str, Any]]) -> None:
    folder = StudyFolder.read(told[0])
    clean, leaky = Runs.read(folder, SCOPE), Runs.read(folder, ("resnet18", "leaky-pool", "lesions"))
    both = join(clean, leaky, "+")
    assert both.arms == (*clean.arms, *("+" + arm for arm in leaky.arms)) and set(both.groups) == {*clean.groups, *leaky.groups}
    one = both.contrast({("+scratch", 10): 1.0, ("scratch", 10): -1.0}, "accuracy")
    apart = [runs.contrast({("scratch", 10): 1.0}, "accuracy") for runs in (leaky, clean)]
    assert one.value == pytest.approx(apart[0].value - apart[1].value)
    assert one.error < np.hypot(apart[0].error, apart[1].error)  # the same images are tested in both
