"""The page about an audit: the findings, the gravest first, with pictures of the images they are about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from isograft.audit.checks import LISTED
from isograft.audit.findings import TITLES, Finding
from isograft.audit.survey import Survey
from isograft.data.containers import read
from isograft.data.readers import ReadError, to_rgb8
from isograft.errors import Unreachable
from isograft.report.figures import Picture, thumbnail
from isograft.report.html import page

MOST_PAIRS = 12
MOST_ROWS = 25


def audit_page(record: dict[str, Any], findings: Sequence[Finding], surveys: Sequence[Survey]) -> str:
    """The whole page, with everything inside.

    Args:
        record: What audit.json holds.
        findings: The findings, the gravest first.
        surveys: The data sets, for pictures.
    """
    return page(
        "audit.html.jinja",
        record=record,
        headline=_headline(findings),
        titles=TITLES,
        findings=[_shown(one, surveys) for one in findings],
    )


def _headline(findings: Sequence[Finding]) -> str:
    """The answer in one sentence."""
    bad = [one for one in findings if one.level == "bad"]
    warned = [one for one in findings if one.level == "warning"]
    if bad:
        kinds = ", ".join(dict.fromkeys(TITLES[one.kind].lower() for one in bad))
        return f"What was found spoils figures that rest on these images: {kinds}."
    if warned:
        kinds = ", ".join(dict.fromkeys(TITLES[one.kind].lower() for one in warned))
        return f"Nothing was found that spoils figures for certain; worth a look: {kinds}."
    return "Nothing was found that would spoil figures."


def _shown(finding: Finding, surveys: Sequence[Survey]) -> dict[str, Any]:
    """A finding with pictures of its first pairs, or the first rows of its table where it is not about pairs."""
    pairs = [_pair(finding.images.row(index, named=True), place, surveys) for index, place in enumerate(finding.pairs[:MOST_PAIRS])]
    table = finding.images.head(0 if finding.pairs else MOST_ROWS)
    more = min(len(finding.images), LISTED) - len(pairs or table)
    return {"finding": finding, "pairs": pairs, "columns": table.columns, "rows": table.rows(), "more": more}


def _pair(known: dict[str, Any], place: tuple[int, int, int, int], surveys: Sequence[Survey]) -> dict[str, Any]:
    """Two images side by side, with their names and labels."""
    number, row, other, column = place
    return {
        "images": [_image(surveys[number], row), _image(surveys[other], column)],
        "reason": known["reason"],
        "correlation": known["correlation"],
        "group": {True: "same group", False: "another group", None: ""}[known["same_group"]],
    }


def _image(one: Survey, row: int) -> dict[str, Any]:
    frame = one.manifest.frame
    place = one.manifest.take(np.array([row])).addresses()[0]
    try:
        shown: Picture | None = thumbnail(to_rgb8(read(place, 1 << 40).array), f"Image {place.name} of {one.name}.")
    except (ReadError, Unreachable):
        shown = None
    return {"picture": shown, "name": place.name, "data": one.name, "label": frame["label"][row]}
