"""What the arms of a study start from: who it is, and what it has seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import polars as pl

from isograft.data.manifest import Manifest
from isograft.lineage import leaks, refuse
from isograft.seal import check_seal, file_sha256, split_seal, without_seal
from isograft.study.arms import STARTS, Step


@dataclass
class Starts:
    """Starting models and weights files, each opened once."""

    _identities: dict[str, str] = field(default_factory=dict)
    _seen: dict[str, pl.DataFrame] = field(default_factory=dict)

    def identity(self, start: str) -> str:
        """What a start is, whatever its place: `scratch`, `imagenet`, or a hash of the weights."""
        if start in STARTS:
            return start
        if start not in self._identities:
            self._identities[start] = _content(start)
        return self._identities[start]

    def refuse_seen(self, start: str, tested: Manifest, task: str) -> None:
        """Refuse a model that has seen a test image, before anything is trained; a weights file does not say what it has seen.

        Raises:
            LeakageError: It has.
        """
        if start in STARTS or not without_seal(start).is_dir():
            return
        if start not in self._seen:
            from isograft.model import Model

            self._seen[start] = Model.load(start).seen()
        refuse(leaks(self._seen[start], tested), len(tested), f"{start}, where an arm of the task {task} starts,")


def unknown_past(chains: Iterable[Sequence[str]]) -> list[str]:
    """Names of the weights files that chains start from: they do not say what they were trained on."""
    places = {without_seal(chain[0]) for chain in chains if chain and chain[0] not in STARTS}
    return sorted({path.name for path in places if path.is_file()})


def said(step: Step) -> str:
    """A step of a chain for people: where a file or folder lies is no one's business."""
    return without_seal(step.name).name if step.kind == "start" and step.name not in STARTS else str(step)


def _content(start: str) -> str:
    path, seal = split_seal(start)
    if path.is_dir():
        from isograft.model import Model

        return Model.load(start).content_hash
    content = file_sha256(path)
    check_seal(path, content, seal)
    return content
