"""Figures side by side: the model against another one, and parts of the test against each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isograft.report.answer import interval_of
from isograft.report.decision_figures import forest_figure
from isograft.report.html import number, signed

if TYPE_CHECKING:
    from isograft.report.evaluation import Evaluated

FIGURES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "macro_precision": "precision, mean of classes",
    "macro_specificity": "specificity, mean of classes",
    "macro_roc_auc": "ROC AUC, mean of classes",
    "macro_pr_auc": "PR AUC, mean of classes",
    "mcc": "Matthews correlation",
    "kappa": "Cohen's kappa",
    "brier": "Brier score",
    "log_loss": "log loss",
    "ece": "calibration error",
}
BETTER_LOW = ("brier", "log_loss", "ece")
_FIRST = ("balanced_accuracy", "macro_roc_auc", "accuracy")
_MOST_ROWS = 30


def named(figure: str) -> str:
    """A dotted name in words: `per_class.mel.roc_auc` is `ROC AUC of mel`."""
    if not figure.startswith("per_class."):
        return FIGURES.get(figure, figure.replace("_", " "))
    of, _, key = figure.removeprefix("per_class.").rpartition(".")
    return f"{ {'roc_auc': 'ROC AUC', 'recall': 'recall', 'pr_auc': 'PR AUC', 'f1': 'F1'}.get(key, key) } of {of}".strip()


def against(tested: Evaluated) -> dict[str, Any] | None:
    """The section about another model: `other`, `text`, `rows`, `figure`, `family`, `leaked`; None where none was given."""
    told = tested.metrics.get("against")
    if not told:
        return None
    figures = told["figures"]
    drawn = [(named(name), one["difference"], _ends(one)) for name, one in figures.items() if name not in BETTER_LOW][:_MOST_ROWS]
    caption = "Differences with 95 % intervals; right of zero, the tested model is better. Open circles have no interval."
    return {
        "other": told["model"]["name"],
        "hash": told["model"].get("content_hash", ""),
        "text": _verdict(tested.model, told),
        "rows": [{"name": named(key), "low_is_better": key in BETTER_LOW, **one} for key, one in figures.items()],
        "figure": forest_figure(drawn, "difference", 0.0, caption=caption) if drawn else None,
        "family": told.get("family", ""),
        "leaked": (told.get("leakage") or {}).get("images", 0),
    }


def subgroups(tested: Evaluated) -> dict[str, Any]:
    """The section about parts of the test: `text`, `columns` (each with `name`, `figure`, `heads`, `rows`), `left_out`."""
    m = tested.metrics
    parts = m.get("subgroups") or []
    columns = list(dict.fromkeys(part["column"] for part in parts))
    shown = [_column(tested, name, [part for part in parts if part["column"] == name]) for name in columns]
    if shown:
        text = (
            "The same figures for parts of the test. Parts differ by chance, the smaller the more, and the more parts are looked at, the "
            "wider the widest gap: take a gap for real only where intervals are far apart, and ask whether the parts hold other classes "
            "or devices."
        )
    else:
        text = (
            "No subgroups: the data have no further column (sex, age, skin type, site, device) that parts the images. "
            "Keep such columns at ingest."
        )
    left_out = sorted((m.get("subgroups_left_out") or {}).items())
    return {"text": text, "columns": shown, "left_out": left_out}


def _column(tested: Evaluated, name: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    figures = list(dict.fromkeys(key for part in parts for key in part["figures"]))
    drawn = _drawn(parts)
    picture, gap = None, ""
    if drawn is not None:
        rows = [(part["value"], part["figures"][drawn], part["intervals"].get(drawn)) for part in parts if drawn in part["figures"]]
        caption = "Line and grey band: the whole test with its 95 % interval. Open circles have no interval."
        picture = forest_figure(rows, named(drawn), tested.metrics[drawn], interval_of(tested.metrics, drawn), caption)
        gap = _gap(named(drawn), rows)
    return {
        "name": name,
        "figure": picture,
        "text": gap,
        "heads": [named(key) for key in figures],
        "rows": [
            {
                "value": part["value"],
                "images": part["images"],
                "groups": part["groups"],
                "cells": [(part["figures"].get(key), part["intervals"].get(key)) for key in figures],
            }
            for part in parts
        ],
        "reasons": _reasons(parts),
    }


def _reasons(parts: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Why figures or intervals are missing, parts of one reason together."""
    by_reason: dict[str, list[str]] = {}
    for part in parts:
        if part.get("reason"):
            by_reason.setdefault(part["reason"], []).append(part["value"])
    return [(", ".join(values), reason) for reason, values in by_reason.items()]


def _drawn(parts: list[dict[str, Any]]) -> str | None:
    """The figure that is compared: the first that most parts have an interval of, else the first that two parts have."""
    for key in _FIRST:
        if 2 * sum(key in part["intervals"] for part in parts) > len(parts):
            return key
    return next((key for key in _FIRST if sum(key in part["figures"] for part in parts) > 1), None)


def _gap(figure: str, rows: list[tuple[str, float, Any]]) -> str:
    """The widest difference between two parts, and whether their intervals meet."""
    if len(rows) < 2:
        return ""
    worst, best = min(rows, key=lambda row: row[1]), max(rows, key=lambda row: row[1])
    told = f"{figure[:1].upper()}{figure[1:]} is lowest for {worst[0]} ({number(worst[1])}) and highest for {best[0]} ({number(best[1])})"
    if not worst[2] or not best[2]:
        return f"{told}; how much of that is chance cannot be told, as one of them has no interval."
    apart = worst[2]["high"] < best[2]["low"]
    return f"{told}; their intervals {'do not meet' if apart else 'overlap, so this may be chance'}."


def _verdict(model: str, told: dict[str, Any]) -> list[str]:
    """What the comparison says, by the first figure that has an interval and by the adjusted tests."""
    figures, other = told["figures"], told["model"]["name"]
    lines = []
    main = next((name for name in _FIRST if name in figures), None)
    if main is not None:
        one = figures[main]
        ends = _ends(one)
        between = f" (95\u00a0% interval {signed(ends['low'])} to {signed(ends['high'])})" if ends else " (no interval)"
        both = f"{model} has {number(one['a'])} and {other} {number(one['b'])}"
        lines.append(f"In {named(main)}, {both}: a difference of {signed(one['difference'])}{between}.")
        if ends and ends["low"] <= 0 <= ends["high"]:
            lines.append("The interval holds zero: this test does not tell which is better, which is no proof that they are alike.")
        elif ends:
            lines.append(f"The interval is on one side of zero: on such images, {model if one['difference'] > 0 else other} is better.")
    tests = {name: one["p_holm"] for name, one in figures.items() if one.get("p_holm") is not None}
    if tests:
        small = [named(name) for name, p in tests.items() if p < 0.05]
        held = ", ".join(small) if small else "none"
        lines.append(f"Of {len(tests)} tests, those below 0.05 after adjustment for their number: {held}.")
    return lines


def _ends(one: dict[str, Any]) -> dict[str, Any] | None:
    return one if one.get("low") is not None else None
