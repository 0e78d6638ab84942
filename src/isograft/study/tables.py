"""The tables of a study's report, as text: the same for the HTML page and for the Markdown one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from isograft.report.study_figures import Point
from isograft.study.costs import Cost
from isograft.study.findings import Finding
from isograft.study.folder import StudyFolder
from isograft.study.protocols import ProtocolEffect
from isograft.study.statistics import Estimate
from isograft.study.verdict import FIGURE_WORDS, p_value, signed

_TIED = "\N{NO-BREAK SPACE}"
PAPER = ("accuracy", "macro_precision", "macro_recall", "macro_f1", "macro_roc_auc", "mcc")


@dataclass(frozen=True)
class Table:
    """A caption, column heads and rows of text; the first cell of a row names it. `words`: the cells are no numbers."""

    caption: str
    columns: list[str]
    rows: list[list[str]]
    words: bool = False


def budget_name(budget: int, labels: float) -> str:
    """A label budget in words."""
    return str(budget) if budget else f"all (about {labels:.0f})"


def glance_table(found: Sequence[Finding], names: Sequence[str], figure: str) -> Table:
    """The main figure of every arm on every task, averaged over the label budgets, with what is better or worse beyond chance."""
    arms = dict.fromkeys(arm for one in found for arm in one.arms)
    rows = [[arm, *(_at_a_glance(one, arm, figure) for one in found)] for arm in arms]
    words = FIGURE_WORDS[figure]
    return Table(
        f"{words[0].upper()}{words[1:]}, averaged over the label budgets; beside it what is beyond chance", ["arm", *names], rows, True
    )


def _at_a_glance(finding: Finding, arm: str, figure: str) -> str:
    if arm not in finding.overall:
        return "–"
    signs = {"gain": "better than", "worse": "worse than"}
    beyond = [f"{signs[one.kind]} {one.baseline}" for one in finding.verdicts if one.arm == arm and one.kind in signs]
    return ", ".join([_number(finding.overall[arm][figure].value), *beyond])


def mean_table(finding: Finding) -> Table:
    """Accuracy, precision, recall, F1 and AUC by label budget and arm, as the paper reports them, with intervals."""
    rows = []
    for budget, labels in zip(finding.budgets, finding.labels, strict=True):
        for arm in finding.arms:
            means = finding.means[arm, budget]
            rows.append([f"{arm}, {budget_name(budget, labels)}", *(_mean(means[name]) for name in PAPER), str(means["accuracy"].repeats)])
    if len(finding.budgets) > 1:
        for arm in finding.arms:
            means = finding.overall[arm]
            rows.append([f"{arm}, mean of budgets", *(_mean(means[name]) for name in PAPER), str(means["accuracy"].repeats)])
    columns = ["arm, labels per class", *(FIGURE_WORDS[name] for name in PAPER), "repeats"]
    return Table("Means over the repeats, with 95 % intervals in brackets", columns, rows)


def difference_table(finding: Finding, figure: str) -> Table:
    """Paired differences in the main figure: averaged over the budgets, then at each."""
    rows = []
    for one, verdict in zip(finding.comparisons, finding.verdicts, strict=True):
        times = f"{one.wins} / {one.ties} / {one.losses}"
        rows.append([f"{one.arm} − {one.baseline}", *_difference(one.overall, one.adjusted), times, verdict.kind])
        if len(one.by_budget) > 1:
            for budget, labels in zip(finding.budgets, finding.labels, strict=True):
                name = f"{one.arm} − {one.baseline}, {budget_name(budget, labels)}"
                rows.append([name, *_difference(one.by_budget[budget], one.adjusted_by_budget[budget]), "", ""])
    columns = ["comparison, labels per class", "difference", "95 % interval", "p", "p, Holm", "better / level / worse", "verdict"]
    return Table(f"Paired differences in {FIGURE_WORDS[figure]}; rows without labels: averaged over the label budgets", columns, rows)


def other_figures_table(finding: Finding) -> Table:
    """Paired differences over the budgets in every other figure."""
    rows = []
    for place, main in enumerate(finding.comparisons):
        cells = [_interval(compared[place].overall, sign=True) for compared in finding.others.values()]
        rows.append([f"{main.arm} − {main.baseline}", *cells])
    return Table("Differences averaged over the label budgets", ["comparison", *(FIGURE_WORDS[name] for name in finding.others)], rows)


def curve_table(finding: Finding, figure: str) -> Table:
    """The main figure by arm (rows) and label budget (columns)."""
    names = [budget_name(*one) for one in zip(finding.budgets, finding.labels, strict=True)]
    rows = [[arm, *(_mean(finding.means[arm, budget][figure]) for budget in finding.budgets)] for arm in finding.arms]
    words = FIGURE_WORDS[figure]
    return Table(f"{words[0].upper()}{words[1:]} by labels per class", ["arm", *names], rows)


def protocol_table(effects: Sequence[ProtocolEffect], several: bool) -> Table:
    """How much higher figures are under another protocol than under the clean one."""
    rows = [
        [
            ", ".join([one.task, *[one.backbone] * several, one.arm, one.protocol, *_budget(one.labels_per_class)]),
            *(_number(one.reference), _number(one.figure), *_difference(one.effect, None)[:3]),
        ]
        for one in effects
    ]
    return Table(
        "Under the clean and under another protocol; rows without labels: averaged over the label budgets (p not corrected)",
        ["task, arm, protocol, labels per class", "clean", "under the protocol", "higher by", "95 % interval", "p"],
        rows,
    )


def _budget(budget: int | None) -> list[str]:
    return [] if budget is None else [str(budget or "all")]


def pool_table(folder: StudyFolder, several: bool) -> Table:
    """Images of the pools (and earlier tasks) of every arm, and how many were removed because they were, or resembled, test images."""
    keys = ["backbone", "protocol", "task", "arm"]
    rows = []
    used = folder.results.filter((pl.col("pool_images") > 0) | (pl.col("pool_removed") > 0))
    for key, group in used.group_by(keys, maintain_order=True):
        backbone, protocol, task, arm = map(str, key)
        name = f"{task}, {arm}, {protocol}{f', {backbone}' if several else ''}"
        rows.append([name, span(group["pool_images"].to_list()), span(group["pool_removed"].to_list())])
    return Table("Images per run, fewest to most", ["task, arm, protocol", "images trained on before the task", "removed"], rows)


def cost_table(costs: Sequence[Cost], several: bool) -> Table:
    """Minutes and images of one run of every arm."""
    rows = [
        [
            f"{one.task}, {one.arm}, {one.protocol}{f', {one.backbone}' if several else ''}",
            str(one.runs),
            *(_minutes(one.run_seconds), f"{one.run_images:,.0f}", _minutes(one.before_seconds), f"{one.before_images:,.0f}"),
            str(one.before_jobs),
        ]
        for one in costs
    ]
    columns = ["task, arm, protocol", "runs", "minutes a run", "images a run", "minutes before", "images before", "jobs before"]
    return Table("Mean cost of one run, and of what it starts from (shared by all runs that start there)", columns, rows)


def record_table(folder: StudyFolder) -> Table:
    """Settings and versions."""
    spec = folder.spec
    rows = [[name.replace("_", " "), _words(spec[name])] for name in _RECORD if name in spec]
    rows += [[name, str(version)] for name, version in sorted(folder.software.items())]
    return Table("Settings and versions", ["what", "value"], rows, words=True)


_RECORD = ("repeats", "test_fraction", "seed", "backbones", "backbone_args", "image_size", "pretrain", "finetune", "metric", "baselines")


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(part)}" for name, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _number(value: float) -> str:
    return f"{value:.3f}".replace("-", "−") if value == value else "–"


def _mean(estimate: Estimate) -> str:
    return _interval(estimate, sign=False)


def _interval(estimate: Estimate, sign: bool) -> str:
    write = signed if sign else _number
    if estimate.value != estimate.value:
        return "–"
    if estimate.low is None or estimate.high is None:
        return write(estimate.value)
    return f"{write(estimate.value)} [{write(estimate.low)},{_TIED}{write(estimate.high)}]"


def _difference(estimate: Estimate, adjusted: float | None) -> list[str]:
    if estimate.value != estimate.value:
        return ["–"] * 4
    interval = "–" if estimate.low is None or estimate.high is None else f"{signed(estimate.low)}{_TIED}to{_TIED}{signed(estimate.high)}"
    return [signed(estimate.value), interval, *(p_value(p).replace(" ", _TIED) for p in (estimate.p, adjusted))]


def span(numbers: Sequence[int]) -> str:
    """The least and the most, or the one number they all are."""
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _minutes(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds / 60:.1f}" if seconds >= 60 or not seconds else f"{seconds / 60:.1g}"


def difference_rows(finding: Finding) -> list[tuple[str, Point, bool]]:
    """Names, points and whether they are averages, for the figure of differences."""
    rows: list[tuple[str, Point, bool]] = []
    for one in finding.comparisons:
        rows.append((f"{one.arm} − {one.baseline}", (one.overall.value, one.overall.low, one.overall.high), True))
        if len(one.by_budget) > 1:
            for budget, labels in zip(finding.budgets, finding.labels, strict=True):
                single = one.by_budget[budget]
                rows.append((f"with {budget_name(budget, labels)}", (single.value, single.low, single.high), False))
    return rows
