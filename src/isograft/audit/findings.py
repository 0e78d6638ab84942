"""What an audit found: one finding, one sentence, with the images it is about."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import polars as pl

from isograft.settings import AuditKind

Level = Literal["bad", "warning", "note"]
LEVELS: tuple[Level, ...] = get_args(Level)

TITLES: dict[AuditKind, str] = {
    "leak": "Images or patients on both sides",
    "conflict": "Copies with different labels",
    "duplicate": "Copies",
    "corrupt": "Files that cannot be used",
    "shortcut": "Labels that can be told without looking at what is shown",
    "unusual": "Unusual images",
    "classes": "Classes and groups",
}
"""What a report calls the kinds of findings."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: What it is; `--fail-on` names kinds.
        level: `bad` where figures would be wrong, `warning` where they may be, `note` otherwise.
        where: The data set, or the two, or the data set and the model.
        sentence: What was found, and what to do.
        count: How many images, pairs or groups it is about.
        images: Which, as a table for machines; without absolute paths.
        pairs: The same pairs as (number of the data set, row, number of the other data set, row), for pictures.
        facts: Further figures.
    """

    kind: AuditKind
    level: Level
    where: str
    sentence: str
    count: int = 0
    images: pl.DataFrame = field(default_factory=pl.DataFrame)
    pairs: list[tuple[int, int, int, int]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """The finding, JSON-ready."""
        return {
            "kind": self.kind,
            "level": self.level,
            "where": self.where,
            "count": self.count,
            "sentence": self.sentence,
            **self.facts,
            "images": self.images.to_dicts(),
        }
