"""The report of a study: one HTML page, the same in Markdown, and the numbers as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isograft.report.html import page
from isograft.report.study_figures import Point, difference_figure, label_curves
from isograft.run import write_atomic
from isograft.study import tables
from isograft.study.costs import Cost, costs, total_seconds
from isograft.study.findings import Finding, findings
from isograft.study.folder import StudyFolder
from isograft.study.method_notes import method_notes, unfinished
from isograft.study.protocols import MEANING, REFERENCE, ProtocolEffect, protocol_effects
from isograft.study.summary import summary
from isograft.study.tables import Table
from isograft.study.verdict import FIGURE_WORDS, saving_sentence

_SYNTHETIC = "They were drawn by a program and show no patient; these figures say nothing about medicine."
_MEANS = "Precision, recall, F1 and AUC are means over the classes (AUC: one class against the rest), each class counting the same."
_DIFFERENCES = (
    "Same training and test images on both sides. The verdict rests on the differences in {figure} averaged over the label budgets, with "
    "p-values corrected by Holm's method over the comparisons of a task; those at single budgets are corrected over all comparisons and "
    "budgets."
)
_POOLS = (
    "From every pool and earlier task, images that are tested, near-duplicates of them and other images of their groups are removed "
    "before training (not so under the protocols leaky-pool and paper)."
)
_ALIKE = "In a comparison every arm has the same backbone, input size, images and label budget."


def write_report(folder: Path) -> dict[str, Any]:
    """Write report.html, report.md and summary.json into a study's folder.

    Args:
        folder: The `--out` of a study, with study.json, results.parquet, ledger.jsonl and the predictions of its runs.

    Returns:
        What summary.json holds.

    Raises:
        IsograftError: A file is missing or not what it should be.
    """
    study = StudyFolder.read(folder)
    figure = str(study.spec.get("metric", "macro_f1"))
    found, effects, spent = findings(study), protocol_effects(study, figure), costs(study)
    values = _page_values(study, figure, found, effects, spent)
    answer = summary(study, figure, found, effects, spent)
    _write(folder / "report.html", page("study.html.jinja", **values))
    _write(folder / "report.md", page("study.md.jinja", **values))
    _write(folder / "summary.json", json.dumps(answer, indent=2, ensure_ascii=False) + "\n")
    return answer


def _page_values(
    study: StudyFolder, figure: str, found: Sequence[Finding], effects: Sequence[ProtocolEffect], spent: Sequence[Cost]
) -> dict[str, Any]:
    several = len({one.backbone for one in found}) > 1
    protocols = {one.protocol for one in found}
    scopes = [_scope(one, figure, several, len(protocols) > 1) for one in found]
    return {
        "title": study.spec.get("title") or "Study",
        "asked": _asked(study, found),
        "synthetic": _SYNTHETIC if study.synthetic else "",
        "warnings": unfinished(found),
        "arms": _arms(study),
        "scopes": scopes,
        "glance": tables.glance_table(found, [scope["name"] for scope in scopes], figure),
        "means_note": _MEANS,
        "differences_note": _DIFFERENCES.format(figure=FIGURE_WORDS[figure]),
        "others_note": "Not corrected for their number, and not what the verdict rests on.",
        "protocols": _protocols(effects, protocols, several) if len(protocols) > 1 else None,
        "pools": tables.pool_table(study, several),
        "pools_note": _POOLS,
        "costs": tables.cost_table(spent, several),
        "costs_note": _costs_note(study),
        "left_out": study.left_out,
        "method": method_notes(study, figure, found),
        "record": tables.record_table(study),
    }


def _scope(one: Finding, figure: str, several_backbones: bool, several_protocols: bool) -> dict[str, Any]:
    parts = [one.title, *[one.backbone] * several_backbones, *[f"protocol {one.protocol}"] * several_protocols]
    names = [tables.budget_name(*pair) for pair in zip(one.budgets, one.labels, strict=True)]
    points: dict[str, Sequence[Point]] = {
        arm: [(mean.value, mean.low, mean.high) for mean in (one.means[arm, budget][figure] for budget in one.budgets)] for arm in one.arms
    }
    rows = tables.difference_rows(one)
    return {
        "name": ", ".join(parts),
        "caution": "" if one.protocol == REFERENCE else f"Under this protocol {MEANING[one.protocol]}: do not rely on these figures.",
        "headline": one.headline,
        "sentences": one.sentences,
        "means": tables.mean_table(one),
        "differences": tables.difference_table(one, figure),
        "others": tables.other_figures_table(one),
        "difference_picture": difference_figure(rows, FIGURE_WORDS[figure]) if rows else None,
        "curves": label_curves(one.labels, names, points, FIGURE_WORDS[figure]),
        "curve_table": tables.curve_table(one, figure),
        "savings": [saving_sentence(saving) for saving in one.savings],
    }


def _asked(study: StudyFolder, found: Sequence[Finding]) -> list[str]:
    """What was compared on what, in sentences."""
    lines = []
    for task in dict.fromkeys(one.task for one in found):
        mine = [one for one in found if one.task == task]
        groups = tables.span([number for one in mine for number in one.test_groups])
        images = tables.span([number for one in mine for number in one.test_images])
        classes = f" (classes {', '.join(study.classes[task])})" if study.classes.get(task) else ""
        budgets = ", ".join(tables.budget_name(*pair) for pair in zip(mine[0].budgets, mine[0].labels, strict=True))
        lines.append(
            f"Task {task}: {mine[0].title}{classes}. {max(one.repeats for one in mine)} repeats, each testing {images} images of {groups} "
            f"groups (patients, lesions); trained on {budgets} labels per class."
        )
    backbones = ", ".join(dict.fromkeys(one.backbone for one in found))
    protocols = ", ".join(dict.fromkeys(one.protocol for one in found))
    return [*lines, f"Backbones: {backbones}. Protocols: {protocols}. {_ALIKE}"]


def _arms(study: StudyFolder) -> Table:
    """The arms as chains; a start from a file is called by the last part of its path."""
    rows = []
    for name, chain in study.spec.get("arms", {}).items():
        steps = list(chain) if chain and ":" not in chain[0] else ["scratch", *chain]
        said = [step if ":" in step and "/" not in step else Path(step).name for step in steps]
        rows.append([name, " → ".join([*said, "the task"]), "baseline" if name in study.spec.get("baselines", ()) else ""])
    return Table("Arms: where a network starts and what it is trained on", ["arm", "chain", "role"], rows, words=True)


def _protocols(effects: Sequence[ProtocolEffect], present: set[str], several: bool) -> dict[str, Any]:
    note = "Positive: the figure is higher than under the clean protocol. Intervals resample whole groups under every protocol."
    if REFERENCE not in present:
        note = f"How much these protocols inflate a figure cannot be told, as the protocol {REFERENCE} was not run."
    return {
        "note": note,
        "meanings": [f"{name}: {meaning}." for name, meaning in MEANING.items() if name in present],
        "table": tables.protocol_table(effects, several),
    }


def _costs_note(study: StudyFolder) -> str:
    total = total_seconds(study)
    spent = "" if total is None else f"All jobs together took {total / 60:,.1f} minutes of computing, those run at the same time added up. "
    return spent + "Images count every pass over them. A dash: the ledger does not say."


def _write(path: Path, text: str) -> None:
    write_atomic(path, text.encode())
