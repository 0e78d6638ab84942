"""What `evaluate` writes for people: the report, and a reporting checklist."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isograft._version import __version__
from isograft.data.manifest import SCHEMA
from isograft.data.places import short_name
from isograft.evaluation.tested import Tested
from isograft.settings import EvaluateSettings


def report_files(tested: Tested, metrics: dict[str, Any], settings: EvaluateSettings) -> dict[str, str]:
    """The content of the files for people, by name.

    Args:
        tested: What was tested.
        metrics: What metrics.json holds.
        settings: What was asked.
    """
    from isograft.lineage import lineage_text
    from isograft.report.checklist import checklist
    from isograft.report.evaluation import Evaluated, evaluation_page

    frame = tested.data.manifest.frame
    columns = [name for name in frame.columns if name not in SCHEMA]
    words = {*tested.classes, *frame["source"].drop_nulls().unique()}
    record = {
        "model": short_name(tested.model.folder),
        "model content hash": tested.model.content_hash,
        "data fingerprint": metrics["data"]["fingerprint"],
        "rows kept by": settings.where or "no filter",
        "made": metrics["created"],
        "software": f"isograft {__version__}",
    }
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
        passport=tested.model.passport,
        columns=columns,
    )
    return {"report.html": evaluation_page(shown), "checklist.md": checklist(metrics, tested.model.passport, columns)}


def _history(path: Path) -> dict[str, Sequence[Any]] | None:
    """The columns of a training history as text, or None where there is none."""
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return {name: [row.get(name) for row in rows] for name in rows[0] if name} if rows else None
