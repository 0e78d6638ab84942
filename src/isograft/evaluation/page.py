"""What `evaluate` writes for people: the report, and the reporting checklist."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isograft import console
from isograft._version import __version__
from isograft.audit.inspection import gravest_first, inspect
from isograft.audit.survey import survey
from isograft.data.manifest import SCHEMA
from isograft.data.places import short_name
from isograft.data.remote import io_threads
from isograft.evaluation.tested import Tested
from isograft.report.checklist import checklist
from isograft.report.evaluation import Evaluated, evaluation_page
from isograft.report.figures import Picture, thumbnail
from isograft.report.mistakes import MOST_MISTAKES, confident_mistakes
from isograft.settings import EvaluateSettings


def report_files(tested: Tested, metrics: dict[str, Any], settings: EvaluateSettings) -> dict[str, str]:
    """The content of the files for people, by name.

    Args:
        tested: What was tested.
        metrics: What metrics.json holds.
        settings: What was asked.
    """
    from isograft.lineage import lineage_text

    frame, passport = tested.data.manifest.frame, tested.model.passport
    words = {*tested.classes, *frame["source"].drop_nulls().unique()}
    record = {
        "model": short_name(tested.model.folder),
        "model content hash": tested.model.content_hash,
        "data fingerprint": metrics["data"]["fingerprint"],
        "rows kept by": settings.where or "no filter",
        "each image shown as": ", ".join(metrics["tta"] or ["it is"]),
        "made": metrics["created"],
        "software": f"isograft {__version__}",
    }
    columns = [name for name in frame.columns if name not in SCHEMA]
    shown = Evaluated(
        metrics=metrics,
        labels=tested.labels,
        probabilities=tested.probabilities,
        classes=tested.classes,
        names=[place.name for place in tested.data.places],
        places=tested.data.places,
        model=short_name(tested.model.folder),
        lineage=lineage_text(tested.model),
        history=_history(tested.model.folder / "history.csv"),
        record=list(record.items()),
        has_groups=frame["group"].null_count() < len(frame),
        own_split=tested.data.own_split,
        synthetic=any("synthetic" in str(word).lower() for word in words),
        left_out=tested.data.left_out,
        heatmaps=_heatmaps(tested),
        audit=_audit(tested, settings),
        passport=passport,
        columns=columns,
    )
    return {"report.html": evaluation_page(shown), "checklist.md": checklist(metrics, passport, columns)}


def _heatmaps(tested: Tested) -> dict[int, Picture]:
    """What spoke for the wrong class, for each mistake that the page shows."""
    rows = confident_mistakes(tested.labels, tested.probabilities)[:MOST_MISTAKES].tolist()
    if not rows:
        return {}
    from isograft.explain.explainer import Explainer
    from isograft.explain.pictures import show, where
    from isograft.inference import read_picture

    explainer, pictures = Explainer(tested.model.network(), tested.model.preprocess), {}
    with console.Progress(len(rows), "Explaining mistakes") as progress:
        for row in rows:
            place, called = tested.data.places[row], int(tested.probabilities[row].argmax())
            picture = read_picture(place, tested.model.preprocess)
            if picture.pixels is not None:
                heatmap, name = explainer.explain(picture.pixels, called), tested.classes[called]
                told = where(heatmap)
                spoke = f"what speaks most for {name} lies {told}" if told else f"nothing speaks for {name}"
                pictures[row] = thumbnail(show(picture.pixels, heatmap).overlay, f"Heatmap of {place.name}: {spoke}.")
            progress.advance()
    return pictures


def _audit(tested: Tested, settings: EvaluateSettings) -> list[tuple[str, str]]:
    """What an audit of the tested images finds: level and sentence."""
    data = tested.data
    threads = settings.threads or io_threads(data.places, os.cpu_count() or 1)
    return [(one.level, one.sentence) for one in gravest_first(inspect(survey(data.name, data.manifest, threads)))]


def _history(path: Path) -> dict[str, Sequence[Any]] | None:
    """The columns of a training history as text, or None where there is none."""
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return {name: [row.get(name) for row in rows] for name in rows[0] if name} if rows else None
