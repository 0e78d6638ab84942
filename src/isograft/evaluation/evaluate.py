"""`isograft evaluate`: score a classifier on images it has never seen, or refuse."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from isograft import console
from isograft._version import __version__
from isograft.assess.metrics import score
from isograft.data.manifest import SCHEMA
from isograft.data.places import short_name
from isograft.data.remote import io_threads
from isograft.errors import IsograftError
from isograft.inference import MAX_PIXELS, classify, read_ahead
from isograft.evaluation.labeled import LabeledData, check_labels, given_data, own_test_split
from isograft.predictions import answers, further_columns, table_bytes
from isograft.run import require_free, whole_folder
from isograft.settings import EvaluateSettings

if TYPE_CHECKING:
    from isograft.model import Model


def evaluate(settings: EvaluateSettings) -> dict[str, Any]:
    """Score a classifier and write `metrics.json`, `predictions.parquet`, `predictions.csv` and `report.html`.

    Returns:
        What metrics.json holds: see `isograft.assess.metrics.score`, plus `model`, `data` and `leakage`.

    Raises:
        LeakageError: The model, or an ancestor, has seen an image or a group that is tested (exit code 3).
        IsograftError: The data do not fit the model, cannot be read, or the output folder exists already.
    """
    out = settings.out
    require_free(out)
    from isograft.model import Model

    model = Model.load(settings.model)
    classes = list(model.classes or ())
    if not classes:
        raise IsograftError(f"{settings.model} is a pretrained backbone without classes; train a classifier from it with isograft finetune")
    data = own_test_split(model, settings.where) if settings.data is None else given_data(settings.data, settings)
    check_labels(data, classes)
    leaked = _leaked_rows(model, data, settings.allow_leakage)
    p = _probabilities(model, data, settings.threads or io_threads(data.places, os.cpu_count() or 1))
    labels = data.manifest.class_numbers(classes)
    metrics = _described(model, data, leaked, settings) | score(labels, p, classes, data.manifest.groups())
    table = _predictions(data, p, classes, leaked)
    page = _page(model, data, metrics, labels, p, classes)
    with whole_folder(out) as folder:
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
        for name in ("predictions.parquet", "predictions.csv"):
            (folder / name).write_bytes(table_bytes(table, Path(name)))
        (folder / "report.html").write_text(page, encoding="utf-8")
    console.say(f"{_told(metrics)}; written to {out}")
    return metrics


def _told(metrics: dict[str, Any]) -> str:
    """The main figures on one line."""
    names = [name for name in ("balanced_accuracy", "macro_f1", "macro_roc_auc") if metrics[name] is not None]
    shown = ", ".join(f"{name.replace('_', ' ')} {metrics[name]:.3f}" for name in names)
    return f"{metrics['n_images']:,} images of {metrics['n_groups']:,} groups: {shown}"


def _leaked_rows(model: Model, data: LabeledData, allowed: bool) -> npt.NDArray[np.bool_]:
    """Which tested rows the model or an ancestor has seen: bool (N,).

    Raises:
        LeakageError: There are some, and that was not allowed.
    """
    from isograft.lineage import leaks, refuse

    found = leaks(model.seen(), data.manifest)
    if not allowed:
        refuse(found, len(data.manifest), str(model.folder))
    leaked = np.zeros(len(data.manifest), dtype=bool)
    leaked[found["row"].cast(pl.Int64).to_numpy()] = True
    if leaked.any():
        told = f"{leaked.sum():,} of {len(leaked):,} images of {data.name} were seen by {model.folder} or an ancestor of it"
        console.warn(f"{told}; every output is stamped as leaked")
    return leaked


def _probabilities(model: Model, data: LabeledData, threads: int) -> npt.NDArray[np.float64]:
    """Probabilities float64 (N, K) in row order, from the original files; each must still hold the pixels it had at ingest."""
    frame = data.manifest.frame
    largest = (
        frame.select(pl.col("width").cast(pl.Int64) * pl.col("height")).max().item() if {"width", "height"} <= {*frame.columns} else None
    )
    pictures = read_ahead(data.places, model.preprocess, threads, max(MAX_PIXELS, largest or 0))
    rows = []
    with console.Progress(len(data.places), "Evaluating") as progress:
        for place, known, (picture, row) in zip(
            data.places, frame["pixel_hash"], classify(model.network(), model.preprocess, pictures), strict=True
        ):
            if row is None:
                raise IsograftError(f"{place} cannot be read any more: {picture.reason}; restore it, or ingest the data again")
            if picture.pixel_hash != known:
                raise IsograftError(
                    f"{place} has changed since it was ingested, so it may be an image the model has seen; "
                    "restore it, or ingest the data again"
                )
            rows.append(row.probabilities())
            progress.advance()
    return np.stack(rows)


def _predictions(data: LabeledData, p: npt.NDArray[np.float64], classes: Sequence[str], leaked: npt.NDArray[np.bool_]) -> pl.DataFrame:
    """One row per tested image: who it is, what it is, what the model says, then the data's further columns; no absolute path."""
    frame, _ = data.manifest.portable()
    table = pl.concat([frame.select("id", "uri", "label", "group"), answers(list(p), classes)], how="horizontal")
    if leaked.any():
        table = table.with_columns(pl.Series("leaked", leaked))
    ours = [name for name in SCHEMA if name != "source" or frame["source"].null_count() == len(frame)]
    return pl.concat([table, further_columns(frame, ours, table.columns)], how="horizontal")


def _described(model: Model, data: LabeledData, leaked: npt.NDArray[np.bool_], settings: EvaluateSettings) -> dict[str, Any]:
    """What metrics.json says about the model, the data and the leak check."""
    hashes = data.manifest.frame["pixel_hash"]
    return {
        "format_version": 1,
        "isograft": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": {"name": short_name(model.folder), "content_hash": model.content_hash},
        "data": {
            "name": data.name,
            "own_test_split": data.own_split,
            "where": settings.where,
            "fingerprint": data.manifest.fingerprint(),
            "left_out": data.left_out,
        },
        "leakage": {"allowed": settings.allow_leakage, "images": int(leaked.sum())},
        "classes": list(model.classes or ()),
        "n_distinct_images": hashes.n_unique(),
    }


def _page(
    model: Model,
    data: LabeledData,
    metrics: dict[str, Any],
    labels: npt.NDArray[np.int64],
    p: npt.NDArray[np.float64],
    classes: Sequence[str],
) -> str:
    from isograft.lineage import lineage_text
    from isograft.report.evaluation import Evaluated, evaluation_page

    frame = data.manifest.frame
    words = {*classes, *frame["source"].drop_nulls().unique()}
    record = {
        "model": short_name(model.folder),
        "model content hash": model.content_hash,
        "data fingerprint": metrics["data"]["fingerprint"],
        "rows kept by": metrics["data"]["where"] or "no filter",
        "made": metrics["created"],
        "software": f"isograft {__version__}",
    }
    tested = Evaluated(
        metrics=metrics,
        labels=labels,
        probabilities=p,
        classes=classes,
        names=[place.name for place in data.places],
        places=data.places,
        model=short_name(model.folder),
        lineage=lineage_text(model),
        history=_history(model.folder / "history.csv"),
        record=list(record.items()),
        has_groups=frame["group"].null_count() < len(frame),
        own_split=data.own_split,
        synthetic=any("synthetic" in str(word).lower() for word in words),
        left_out=data.left_out,
    )
    return evaluation_page(tested)


def _history(path: Path) -> dict[str, Sequence[Any]] | None:
    """The columns of a training history as text, or None where there is none."""
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return {name: [row.get(name) for row in rows] for name in rows[0] if name} if rows else None
