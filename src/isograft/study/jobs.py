"""A job of a study: something that is done once, and known again by its key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Job:
    """Something that is done once.

    Attributes:
        key: 20 hexadecimal digits, a function of everything that decides the outcome, and of no path and no time.
        kind: `pretrain`, `step` (another task within a chain), `probes` (all probes of one start on one task) or `run`.
        name: What it is, for people.
        parents: Keys of the jobs it starts from.
        images: Images it will process, for the estimate of the time.
        payload: JSON-ready; all that it needs beside the study's folder.
    """

    key: str
    kind: str
    name: str
    parents: tuple[str, ...]
    images: int
    payload: dict[str, Any]
