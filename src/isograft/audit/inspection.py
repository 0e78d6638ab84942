"""Everything that an audit asks of one data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from isograft.audit import checks
from isograft.audit.copies import copies
from isograft.audit.findings import LEVELS, Finding
from isograft.audit.shortcuts import shortcuts
from isograft.audit.survey import Survey
from isograft.settings import AUDIT_KINDS


def inspect(one: Survey, number: int = 0) -> Iterator[Finding]:
    """What is wrong inside a data set.

    Args:
        one: The data set, looked at once.
        number: Its place among those that are audited together.
    """
    yield from checks.files(one)
    if not len(one.manifest):
        return
    pairs = copies(one)
    yield from checks.copies_inside(one, number, pairs)
    yield from checks.conflicts_inside(one, number, pairs)
    yield from checks.splits_inside(one, number, pairs)
    yield from checks.unusual(one)
    yield from checks.classes(one)
    yield from shortcuts(one)


def gravest_first(findings: Iterable[Finding]) -> list[Finding]:
    """Findings by level, then by kind."""
    return sorted(findings, key=lambda one: (LEVELS.index(one.level), AUDIT_KINDS.index(one.kind)))
