"""`isograft audit`: what is wrong with images before anything is trained on them, and what they share with others or with a model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isograft import console
from isograft._version import __version__
from isograft.audit import overlaps
from isograft.audit.copies import copies, crops_searched
from isograft.audit.findings import Finding
from isograft.audit.inspection import gravest_first, inspect
from isograft.audit.survey import Survey, survey
from isograft.data.decode import core_count
from isograft.data.places import short_name
from isograft.data.source import open_everything
from isograft.errors import AuditFailed
from isograft.run import require_free, whole_folder
from isograft.settings import AuditSettings, DataSettings

if TYPE_CHECKING:
    from isograft.model import Model


def audit(settings: AuditSettings) -> dict[str, Any]:
    """Look at every image once, and say what would spoil a figure.

    Returns:
        What audit.json holds: the data sets, and the findings, the gravest first.

    Raises:
        AuditFailed: A kind of finding named by `--fail-on` was found to be bad (exit code 3); the report is written all the same.
        IsograftError: The data or the model cannot be read, or the output folder exists already.
    """
    out = settings.out
    if out is not None:
        require_free(out)
    model = _model(settings.model)
    surveys = _surveys(settings)
    findings = gravest_first(_findings(surveys, model))
    record = {
        "format_version": 1,
        "isograft": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": [{"name": one.name, "images": len(one.everything), "usable": len(one.manifest)} for one in surveys],
        "model": None if model is None else {"name": short_name(model.folder), "content_hash": model.content_hash},
        "not_searched_for_crops": _not_searched(surveys),
        "findings": [one.record() for one in findings],
    }
    for one in findings:
        (console.say if one.level == "note" else console.warn)(f"{one.where}: {one.sentence}")
    if out is not None:
        from isograft.audit.page import audit_page

        page = audit_page(record, findings, surveys)
        with whole_folder(out) as folder:
            (folder / "audit.json").write_text(json.dumps(record, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
            (folder / "audit.html").write_text(page, encoding="utf-8")
        console.say(f"written to {out / 'audit.html'}")
    failed = sorted({one.kind for one in findings if one.kind in settings.fail_kinds and one.level != "note"})
    if failed:
        raise AuditFailed(f"the audit found what --fail-on names: {', '.join(failed)}; see the findings above")
    return record


def _surveys(settings: AuditSettings) -> list[Survey]:
    """Every data set, looked at once, under names that differ."""
    threads = settings.threads or core_count()
    options = DataSettings.model_validate({"cache_dir": settings.cache_dir, "threads": threads})
    names = _names(settings.data)
    return [survey(name, open_everything(data, options, settle=False), threads) for name, data in zip(names, settings.data, strict=True)]


def _names(data: Sequence[str]) -> list[str]:
    """Short names; with the folder before them where two are the same."""
    short = [short_name(Path(one)) for one in data]
    longer = [f"{short_name(Path(one).absolute().parent)}/{name}" for one, name in zip(data, short, strict=True)]
    return [name if short.count(name) == 1 else long for name, long in zip(short, longer, strict=True)]


def _model(folder: Path | None) -> Model | None:
    if folder is None:
        return None
    from isograft.model import Model

    return Model.load(folder)


def _findings(surveys: list[Survey], model: Model | None) -> Iterator[Finding]:
    for number, one in enumerate(surveys):
        yield from inspect(one, number)
        if model is not None and len(one.manifest):
            yield from overlaps.seen_by(model, one)
    for (first, one), (second, other) in combinations(enumerate(surveys), 2):
        if len(one.manifest) and len(other.manifest):
            yield from overlaps.between(one, other, (first, second), copies(one, other))


def _not_searched(surveys: list[Survey]) -> list[str]:
    """What was too large to look for cropped copies in, too."""
    alone = [one.name for one in surveys if not crops_searched(one)]
    pairs = [f"{one.name} and {other.name}" for one, other in combinations(surveys, 2) if not crops_searched(one, other)]
    return [*alone, *pairs]
