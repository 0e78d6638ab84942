"""Everything a study's report says, computed once: means, differences, label savings and verdicts of every task."""

from __future__ import annotations

from dataclasses import dataclass, replace

import polars as pl

from isograft.study.comparison import Comparison, common_budgets, compare
from isograft.study.folder import StudyFolder
from isograft.study.influence import FIGURES
from isograft.study.labels_needed import LabelsNeeded, labels_needed
from isograft.study.runs import Runs
from isograft.study.statistics import Estimate
from isograft.study.verdict import Verdict, headline, judge, saving_sentence


@dataclass(frozen=True)
class Finding:
    """What was found on one task with one backbone under one protocol.

    Attributes:
        backbone: The backbone.
        protocol: The protocol.
        task: The task.
        title: The task in words.
        budgets: Label budgets, 0 for all.
        labels: Labels per class of every budget.
        means: Mean of every figure by arm and budget.
        overall: Mean of every figure by arm over the budgets.
        comparisons: Differences in the main figure, which the verdict rests on.
        others: Differences over the budgets in every other figure, by figure and then as in `comparisons`.
        savings: Label savings that the data support.
        verdicts: One per comparison.
        repeats: How many repeats have a run.
        test_groups: Fewest and most groups tested in a run.
        test_images: Fewest and most images tested in a run.
        missing: How many runs of the study are not there.
    """

    backbone: str
    protocol: str
    task: str
    title: str
    budgets: tuple[int, ...]
    labels: tuple[float, ...]
    means: dict[tuple[str, int], dict[str, Estimate]]
    overall: dict[str, dict[str, Estimate]]
    comparisons: list[Comparison]
    others: dict[str, list[Comparison]]
    savings: list[LabelsNeeded]
    verdicts: list[Verdict]
    repeats: int
    test_groups: tuple[int, int]
    test_images: tuple[int, int]
    missing: int

    @property
    def arms(self) -> list[str]:
        """The arms, in the order of the study file."""
        return list(self.overall)

    @property
    def headline(self) -> str:
        """All answers in one line."""
        return headline(self.verdicts)

    @property
    def sentences(self) -> list[str]:
        """The verdict in plain words: one entry per comparison, then label savings."""
        return [*(verdict.sentences for verdict in self.verdicts), *map(saving_sentence, shown_savings(self.savings))]


def findings(folder: StudyFolder) -> list[Finding]:
    """Compute what was found on every task, with every backbone, under every protocol."""
    return [_finding(folder, scope) for scope in folder.scopes()]


def shown_savings(savings: list[LabelsNeeded]) -> list[LabelsNeeded]:
    """Of every pair of arms the saving with the fewest labels that has a number, else with the fewest labels."""
    chosen: dict[tuple[str, str], LabelsNeeded] = {}
    for saving in savings:
        known = chosen.get((saving.better, saving.worse))
        if known is None or (known.needed is None and saving.needed is not None):
            chosen[saving.better, saving.worse] = saving
    return list(chosen.values())


def _finding(folder: StudyFolder, scope: tuple[str, str, str]) -> Finding:
    runs, figure = Runs.read(folder, scope), folder.spec.get("metric", "macro_f1")
    baselines = list(folder.spec.get("baselines", ()))
    comparisons = compare(runs, baselines, figure)
    rows = folder.rows(scope)
    return Finding(
        *scope,
        title=folder.title(scope[2]),
        budgets=runs.budgets,
        labels=tuple(float(number) for number in runs.labels),
        means={
            (arm, budget): {name: bounded(runs.contrast({(arm, budget): 1.0}, name), name) for name in FIGURES}
            for arm in runs.arms
            for budget in runs.budgets
        },
        overall={arm: {name: _over_budgets(runs, arm, name) for name in FIGURES} for arm in runs.arms},
        comparisons=comparisons,
        others={name: compare(runs, baselines, name) for name in FIGURES if name != figure},
        savings=[saving for one in comparisons for saving in labels_needed(runs, one, figure)],
        verdicts=[judge(one, figure, len(comparisons), len(common_budgets(runs, (one.arm, one.baseline), figure))) for one in comparisons],
        repeats=len(runs.repeats),
        test_groups=_range(rows["test_groups"]),
        test_images=_range(rows["test_images"]),
        missing=max(0, len(runs.arms) * len(runs.budgets) * max(len(runs.repeats), int(folder.spec.get("repeats", 0))) - rows.height),
    )


def _over_budgets(runs: Runs, arm: str, figure: str) -> Estimate:
    budgets = common_budgets(runs, (arm,), figure) or list(runs.budgets)
    return bounded(runs.contrast({(arm, budget): 1 / len(budgets) for budget in budgets}, figure), figure)


def bounded(mean: Estimate, figure: str) -> Estimate:
    """Keep the interval of a figure inside the figure's range."""
    if mean.low is None or mean.high is None:
        return mean
    return replace(mean, low=max(mean.low, -1.0 if figure == "mcc" else 0.0), high=min(mean.high, 1.0))


def _range(values: pl.Series) -> tuple[int, int]:
    numbers = values.to_numpy()
    return int(numbers.min()), int(numbers.max())
