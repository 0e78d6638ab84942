"""`isograft evaluate`: score a classifier on images it has never seen, or refuse."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from isograft import console
from isograft._version import __version__
from isograft.data.manifest import SCHEMA
from isograft.data.places import short_name
from isograft.errors import IsograftError
from isograft.evaluation.against import Other, compared, open_other
from isograft.evaluation.answering import answers_to, leaked_rows
from isograft.evaluation.figures import figures
from isograft.evaluation.labeled import check_labels, given_data, own_test_split
from isograft.evaluation.tested import Tested
from isograft.passport import require_classifier
from isograft.predictions import further_columns, table_bytes
from isograft.run import require_free, whole_folder
from isograft.settings import EvaluateSettings


def evaluate(settings: EvaluateSettings) -> dict[str, Any]:
    """Score a classifier and write `metrics.json`, `predictions.parquet`, `predictions.csv`, `report.html` and `checklist.md`.

    Returns:
        What metrics.json holds: see `isograft.assess.metrics.score` and `isograft.evaluation.figures.figures`, plus `model`, `data`,
        `leakage` and, with `--against`, the comparison.

    Raises:
        LeakageError: The model (or the one it is compared with), or an ancestor, has seen an image or a group that is tested (exit code 3).
        IsograftError: The data do not fit the model, cannot be read, or the output folder exists already.
    """
    from isograft.evaluation.page import report_files

    out = settings.out
    require_free(out)
    tested, other = _tested(settings)
    metrics = _described(tested, settings) | figures(tested, settings)
    metrics["against"] = None if other is None else compared(tested, other, settings)
    table = _predictions(tested)
    files = report_files(tested, metrics, settings)
    with whole_folder(out) as folder:
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
        for name in ("predictions.parquet", "predictions.csv"):
            (folder / name).write_bytes(table_bytes(table, Path(name)))
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    console.say(f"{_told(metrics)}; written to {out}")
    return metrics


def _tested(settings: EvaluateSettings) -> tuple[Tested, Other | None]:
    """Open the model and the data, refuse what the model has seen, and ask it about each image."""
    require_classifier(settings.model)
    from isograft.model import Model

    model = Model.load(settings.model)
    classes = list(model.classes or ())
    if unknown := [name for name in settings.prevalences if name not in classes]:
        raise IsograftError(f"--prevalence names the class '{unknown[0]}', which the model does not know; it knows {', '.join(classes)}")
    data = own_test_split(model, settings.where) if settings.data is None else given_data(settings.data, settings)
    check_labels(data, classes)
    leaked = leaked_rows(model, data, settings.allow_leakage)
    other = open_other(model, data, settings)
    answers = answers_to(model, data, settings)
    return Tested(model, data, leaked, answers, model.judgement()), other


def _told(metrics: dict[str, Any]) -> str:
    """The main figures on one line, with their intervals."""
    shown = []
    for name in ("balanced_accuracy", "macro_f1", "macro_roc_auc"):
        if metrics[name] is None:
            continue
        interval = metrics["intervals"]["figures"].get(name)
        between = f" [{interval['low']:.3f}, {interval['high']:.3f}]" if interval else ""
        shown.append(f"{name.replace('_', ' ')} {metrics[name]:.3f}{between}")
    return f"{metrics['n_images']:,} images of {metrics['n_groups']:,} groups: {', '.join(shown)}"


def _predictions(tested: Tested) -> pl.DataFrame:
    """One row per tested image: who it is, what it is, what the model says, then the data's further columns; no absolute path."""
    frame, _ = tested.data.manifest.portable()
    table = pl.concat([frame.select("id", "uri", "label", "group"), tested.said], how="horizontal")
    if tested.leaked.any():
        table = table.with_columns(pl.Series("leaked", tested.leaked))
    ours = [name for name in SCHEMA if name != "source" or frame["source"].null_count() == len(frame)]
    return pl.concat([table, further_columns(frame, ours, table.columns)], how="horizontal")


def _described(tested: Tested, settings: EvaluateSettings) -> dict[str, Any]:
    """What metrics.json says about the model, the data and the leak check."""
    data, hashes = tested.data, tested.data.manifest.frame["pixel_hash"]
    return {
        "format_version": 2,
        "isograft": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": {"name": short_name(tested.model.folder), "content_hash": tested.model.content_hash},
        "tta": list(tested.model.symmetries(settings.tta)) if settings.tta else None,
        "data": {
            "name": data.name,
            "own_test_split": data.own_split,
            "where": settings.where,
            "fingerprint": data.manifest.fingerprint(),
            "left_out": data.left_out,
        },
        "leakage": {"allowed": settings.allow_leakage, "images": int(tested.leaked.sum())},
        "classes": tested.classes,
        "n_distinct_images": hashes.n_unique(),
    }
