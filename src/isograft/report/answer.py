"""What an evaluation found, in the words and figures that a reader meets first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isograft.report.html import number, percent

if TYPE_CHECKING:
    from isograft.report.evaluation import Evaluated

CARDS = {
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "macro_roc_auc": "ROC AUC, mean of classes",
    "macro_pr_auc": "PR AUC, mean of classes",
    "accuracy": "accuracy",
    "mcc": "Matthews correlation",
    "kappa": "Cohen's kappa",
    "macro_specificity": "specificity, mean of classes",
}
OF_A_CLASS = {
    "precision": "precision (PPV)",
    "recall": "recall (sensitivity)",
    "specificity": "specificity",
    "f1": "F1",
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC",
}
_WORDS = {"roc_auc": "ROC AUC", "pr_auc": "PR AUC", "f1": "F1", "mcc": "Matthews correlation", "kappa": "Cohen's kappa"}
_WORDS |= {"brier": "Brier score", "log_loss": "log loss", "ece": "calibration error"}


def interval_of(metrics: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The interval of a figure by its dotted name; None where there is none."""
    found: dict[str, Any] | None = ((metrics.get("intervals") or {}).get("figures") or {}).get(name)
    return found


def summary(tested: Evaluated) -> str:
    """What was tested, on how many."""
    m = tested.metrics
    people = (
        f" of {m['n_groups']:,} groups (patients or lesions)" if tested.has_groups else "; which of them show the same patient is not known"
    )
    where = "the model's own held-out test split" if tested.own_split else "data given for this test"
    return f"Tested on {m['n_images']:,} images{people}: {where}, {len(m['macro_classes'])} of the model's {len(tested.classes)} classes."


def headline(tested: Evaluated) -> list[str]:
    """The answer in plain sentences: how often right, against what guessing would give, and where it is weakest."""
    m, present = tested.metrics, tested.metrics["macro_classes"]
    told = _of_two(m, list(tested.classes)) if len(tested.classes) == len(present) == 2 else _of_many(m, present)
    most = max(present, key=lambda name: m["per_class"][name]["images"])
    share = m["per_class"][most]["images"] / m["n_images"]
    told.append(
        f"Over all images it was right in {percent(m['accuracy'])}{_around(interval_of(m, 'accuracy'))}; "
        f"always answering ‘{most}’, the most frequent class here, would have been right in {percent(share)}."
    )
    return told


def stamps(tested: Evaluated) -> list[dict[str, str]]:
    """What spoils the figures, to be read before them."""
    leak, found = tested.metrics["leakage"], []
    if leak["images"]:
        text = (
            f"The model, or a model it was made from, has seen {leak['images']:,} of the {tested.metrics['n_images']:,} tested images or "
            "their patients. The check was overridden with --allow-leakage. These figures say nothing about new patients."
        )
        found.append({"title": "Leaked.", "text": text})
    if tested.synthetic:
        text = "They were drawn by a program and show no patient; the figures say nothing about medicine."
        found.append({"title": "Synthetic images.", "text": text})
    return found


def cards(tested: Evaluated) -> list[dict[str, Any]]:
    """The main figures with their intervals."""
    m = tested.metrics
    return [{"name": name, "value": m[key], "interval": interval_of(m, key)} for key, name in CARDS.items()]


def class_rows(tested: Evaluated) -> list[dict[str, Any]]:
    """Each class against the rest: its name, images, and figures as (value, interval)."""
    m = tested.metrics
    return [
        {
            "name": name,
            "images": one["images"],
            "cells": [(one[key], interval_of(m, f"per_class.{name}.{key}")) for key in OF_A_CLASS],
        }
        for name, one in m["per_class"].items()
    ]


def means(tested: Evaluated) -> str:
    """Which classes the means run over."""
    absent = len(tested.classes) - len(tested.metrics["macro_classes"])
    rest = f" with images; {absent} without images {'is' if absent == 1 else 'are'} left out" if absent else ""
    classes = f"{len(tested.metrics['macro_classes'])} classes{rest}"
    return f"Balanced accuracy, macro F1 and the other means give every class the same weight ({classes})."


def how_sure(tested: Evaluated) -> str:
    """What the intervals are, or that there are none."""
    told = tested.metrics.get("intervals")
    if not told or not told["figures"]:
        return "A figure without an interval says nothing about chance; see the limitations."
    units = "patients or lesions" if tested.has_groups else "images, as the data name no patients"
    kind = units.partition(",")[0]
    methods = {one["method"] for one in told["figures"].values()}
    exact = "; simple shares of single images are exact (Clopper-Pearson)" if "exact" in methods else ""
    return (
        f"Small print under a figure: its {100 * told['level']:.0f}\u00a0% interval, the range that other {kind} of the same sort could "
        f"well have given. Computed from {told['resamples']:,} resamples of {units}; {told['strata']}{exact}."
    )


def who(tested: Evaluated) -> str:
    """How many images of how many groups, and how many are repeated."""
    m = tested.metrics
    groups = f"{m['n_groups']:,} groups" if tested.has_groups else "no group (patient, lesion) named"
    again = m["n_images"] - m["n_distinct_images"]
    copies = f" {again:,} of the images repeat the pixels of another." if again else " No two have the same pixels."
    return f"{m['n_images']:,} images, {groups}, from {m['data']['name']}.{copies}"


def reasons(given: dict[str, str]) -> list[tuple[str, str]]:
    """What was not computed, one line per class and reason: (names of the figures, reason)."""
    lines: dict[tuple[str, str], list[str]] = {}
    for dotted, reason in given.items():
        of, key = "", dotted
        if dotted.startswith("per_class."):
            name, _, key = dotted.removeprefix("per_class.").rpartition(".")
            of = f" of {name}"
        plain = key.removeprefix("macro_")
        word = _WORDS.get(plain, plain.replace("_", " "))
        lines.setdefault((of, reason), []).append(("mean " if plain != key else "") + word)
    return [(", ".join(names) + of, reason) for (of, reason), names in lines.items()]


def without_interval(tested: Evaluated) -> list[tuple[str, str]]:
    """Which figures have no interval, and why: (names, reason), classes of one reason together."""
    told = (tested.metrics.get("intervals") or {}).get("reasons") or {}
    lines: dict[tuple[str, str], list[str]] = {}
    for names, reason in reasons(told):
        figures, _, of = names.partition(" of ")
        lines.setdefault((figures, reason), []).append(of)
    return [(figures + (f" of {', '.join(filter(None, of))}" if any(of) else ""), reason) for (figures, reason), of in lines.items()]


def _of_two(m: dict[str, Any], classes: list[str]) -> list[str]:
    first, second = sorted(classes, key=lambda name: m["per_class"][name]["images"])  # the rarer one is what is looked for
    found, spared = (
        f"{percent(m['per_class'][name]['recall'])} of the {m['per_class'][name]['images']:,} images of ‘{name}’"
        f"{_around(interval_of(m, f'per_class.{name}.recall'))}"
        for name in (first, second)
    )
    area, between = m["macro_roc_auc"], _around(interval_of(m, "macro_roc_auc"), percents=False)
    order = (
        f" Given one image of each class, it ranks them rightly in {percent(area)} of cases (ROC AUC {number(area)}{between})."
        if area is not None
        else ""
    )
    return [f"It recognised {found}, and {spared}.{order}"]


def _of_many(m: dict[str, Any], present: list[str]) -> list[str]:
    guess = f"; guessing would find {percent(1 / len(present))}" if len(present) > 1 else ""
    told = [
        f"On average over the classes it recognised {percent(m['balanced_accuracy'])} of a class's images"
        f"{_around(interval_of(m, 'balanced_accuracy'))}{guess}."
    ]
    if len(present) > 1:
        ranked = sorted(present, key=lambda name: m["per_class"][name]["recall"])
        worst, best = (f"‘{name}’ ({percent(m['per_class'][name]['recall'])})" for name in (ranked[0], ranked[-1]))
        told.append(f"It recognised {best} best and {worst} least.")
    return told


def _around(interval: dict[str, Any] | None, percents: bool = True) -> str:
    """An interval in brackets."""
    if interval is None or interval.get("low") is None:
        return "" if not percents else " (no interval)"
    word, (left, right) = (percent, (" (", ")")) if percents else (number, (", ", ""))
    return f"{left}95\u00a0% interval {word(interval['low'])} to {word(interval['high'])}{right}"
