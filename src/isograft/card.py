"""The model card: the passport in words, written as README.md into every model folder.

The head is the metadata that the Hugging Face Hub reads (https://huggingface.co/docs/hub/model-cards), the rest is Markdown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from isograft.passport import Passport
from isograft.report.html import markdown, page

_TASKS = {"classifier": "image-classification", "backbone": "image-feature-extraction"}
_FIGURES = {
    "accuracy": ("accuracy", "accuracy"),
    "balanced_accuracy": ("balanced_accuracy", "balanced accuracy"),
    "macro_f1": ("f1", "macro F1"),
    "macro_roc_auc": ("roc_auc", "ROC AUC, mean of classes"),
}
"""Figures that a card carries for machines: our name to the Hub's type and a name for people."""
_LISTED = 40


def model_card(passport: Passport) -> str:
    """The card of a model: metadata in YAML, then Markdown.

    Args:
        passport: With its content hash.
    """
    source = passport.init.get("source") or "random weights"
    start = ", ".join(f"model {parent['content_hash'][:12]}" for parent in passport.parents) or source
    head = yaml.safe_dump(metadata(passport), allow_unicode=True, sort_keys=False, width=1000)
    return page(
        "card.md.jinja",
        head=head,
        p=passport,
        title=_title(passport),
        start=start,
        members=passport.members,
        classes=_classes(passport),
        figures=[(name, value) for name, value in passport.metrics.items() if name != "step" and isinstance(value, int | float)],
        judgement=_judgement(passport),
        lineage=_lineage(passport),
    )


def metadata(passport: Passport) -> dict[str, Any]:
    """What the Hub reads of a card: library, task, tags, the base model where it lies on the Hub, and validation figures.

    A licence is left out: it is the maker's to choose. So are data sets, unless the Hub knew their names.
    """
    tags = ["medical-imaging", "transfer-learning", "isograft", passport.backbone.name, passport.method]
    told: dict[str, Any] = {
        "library_name": "isograft",
        "pipeline_tag": _TASKS[passport.kind],
        "tags": list(dict.fromkeys(tag for tag in tags if tag)),
    }
    if found := re.search(r"hf-hub:([\w.-]+/[\w.-]+)", str(passport.init.get("source") or "")):
        told["base_model"] = found[1]
    figures = _figures(passport)
    if figures:
        told["metrics"] = [one["type"] for one in figures]
        told["model-index"] = [{"name": _title(passport), "results": [_result(passport, figures)]}]
    return told


def _title(passport: Passport) -> str:
    return f"{passport.backbone.name} {passport.kind}, {passport.method}"


def _figures(passport: Passport) -> list[dict[str, Any]]:
    """The validation figures of a classifier that the Hub knows a type for."""
    found = []
    for name, value in passport.metrics.items():
        kind, words = _FIGURES.get(name.removeprefix("val_"), ("", ""))
        if passport.kind == "classifier" and kind and name.startswith("val_") and isinstance(value, int | float):
            found.append({"type": kind, "value": float(value), "name": f"{words}, of the validation during training"})
    return found


def _result(passport: Passport, figures: list[dict[str, Any]]) -> dict[str, Any]:
    parts = [one for one in passport.data if one.get("role") == "val"] or [one for one in passport.data if one.get("role") == "train"]
    name = str(parts[0].get("name", "unnamed")) if parts else "not recorded"
    kind = re.sub(r"[^\w.-]+", "-", name).strip("-") or "unnamed"
    return {
        "task": {"type": _TASKS[passport.kind], "name": "Image classification"},
        "dataset": {"type": kind, "name": name, "split": "validation"},
        "metrics": figures,
    }


def _classes(passport: Passport) -> str:
    names = [markdown(name) for name in passport.classes or []]
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def _judgement(passport: Passport) -> dict[str, Any]:
    """The calibration record for reading: `missing`, or what was fitted on what."""
    judged: dict[str, Any] = passport.judgement
    if not judged or "missing" in judged:
        return {"missing": judged.get("missing") or "it was made without labeled images kept from the training"}
    points = [point for point in judged.get("operating_points") or [] if point.get("threshold") is not None]
    rules = judged.get("conformal") or {}
    return {
        "missing": "",
        "fitted_on": judged.get("fitted_on") or "held-out images",
        "temperature": judged.get("temperature"),
        "points": points[:_LISTED],
        "coverage": next((rule.get("coverage") for rule in rules.values()), None),
        "domain": bool(judged.get("domain")),
    }


def _lineage(passport: Passport) -> list[str]:
    """Every ancestor on a line, indented by generation."""

    def walk(parents: list[dict[str, Any]], depth: int) -> Iterator[str]:
        for parent in parents:
            data = ", ".join(str(entry.get("name", "unnamed")) for entry in parent.get("data") or [])
            told = f"{parent.get('kind', 'model')} {parent['content_hash'][:12]}, {parent.get('method') or 'unknown method'}"
            yield "  " * depth + "- " + markdown(told + (f", trained on {data}" if data else ""))
            yield from walk(parent.get("parents") or [], depth + 1)

    return list(walk(passport.parents, 0))
