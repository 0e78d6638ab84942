"""Every arm against every baseline on one task: paired by split, per label budget and over all budgets, corrected for their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isograft.assess.comparison import holm
from isograft.study.runs import Cell, Runs
from isograft.study.statistics import Estimate

TIE = 0.0005
"""Two figures that are closer than this are equal in print."""


@dataclass(frozen=True)
class Comparison:
    """An arm less a baseline, in one figure.

    Attributes:
        arm: The arm.
        baseline: What it is compared with.
        overall: Difference averaged over the label budgets.
        adjusted: Its p-value after Holm's correction over the comparisons of the task.
        by_budget: Difference at every label budget.
        adjusted_by_budget: Their p-values, corrected over all comparisons and budgets of the task.
        wins: Repeats in which the arm was better, averaged over the budgets.
        ties: Repeats without a difference in print.
        losses: Repeats in which the baseline was better.
    """

    arm: str
    baseline: str
    overall: Estimate
    adjusted: float | None
    by_budget: dict[int, Estimate]
    adjusted_by_budget: dict[int, float | None]
    wins: int
    ties: int
    losses: int


def pairs(arms: Sequence[str], baselines: Sequence[str]) -> list[tuple[str, str]]:
    """Every arm with every baseline; two baselines meet once, the later one less the earlier one."""
    present = [name for name in baselines if name in arms]
    return [(arm, base) for arm in arms for base in present if arm not in present[: present.index(base) + 1]]


def difference(arm: str, baseline: str, budgets: Sequence[int]) -> dict[Cell, float]:
    """Weights of the paired difference averaged over label budgets."""
    share = 1 / len(budgets)
    return {(arm, budget): share for budget in budgets} | {(baseline, budget): -share for budget in budgets}


def compare(runs: Runs, baselines: Sequence[str], figure: str) -> list[Comparison]:
    """Compare every arm with every baseline in one figure."""
    found = []
    for arm, base in pairs(runs.arms, baselines):
        budgets = common_budgets(runs, (arm, base), figure)
        weights = difference(arm, base, budgets or runs.budgets)
        by_budget = {budget: runs.contrast(difference(arm, base, [budget]), figure) for budget in runs.budgets}
        found.append((arm, base, runs.contrast(weights, figure), by_budget, runs.values(weights, figure)))
    adjusted = holm([overall.p for _, _, overall, _, _ in found])
    singles = [(place, budget) for place, one in enumerate(found) for budget in one[3]]
    each = dict(zip(singles, holm([found[place][3][budget].p for place, budget in singles]), strict=True))
    return [
        Comparison(
            *(arm, base, overall, adjusted[place], by_budget, {budget: each[place, budget] for budget in by_budget}),
            wins=int((values > TIE).sum()),
            ties=int((np.abs(values) <= TIE).sum()),
            losses=int((values < -TIE).sum()),
        )
        for place, (arm, base, overall, by_budget, values) in enumerate(found)
    ]


def common_budgets(runs: Runs, arms: Sequence[str], figure: str) -> list[int]:
    """Budgets at which all of these arms have a repeat in common."""
    return [budget for budget in runs.budgets if np.isfinite(runs.values({(arm, budget): 1.0 for arm in arms}, figure)).any()]
