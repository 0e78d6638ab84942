"""The numbers of a study's report as JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from isograft.study.costs import Cost, total_seconds
from isograft.study.findings import Finding
from isograft.study.folder import StudyFolder
from isograft.study.protocols import ProtocolEffect

_OWN = ("backbone", "protocol", "task", "title", "repeats", "budgets", "labels", "missing", "test_groups", "test_images", "headline")


def summary(
    study: StudyFolder, figure: str, found: Sequence[Finding], effects: Sequence[ProtocolEffect], spent: Sequence[Cost]
) -> dict[str, Any]:
    """All numbers of the report, ready for JSON: a figure that does not exist is None."""
    return {
        "title": study.spec.get("title", ""),
        "metric": figure,
        "synthetic": study.synthetic,
        "results": [_result(one, study.classes.get(one.task, [])) for one in found],
        "protocol_effects": plain(effects),
        "costs": plain(spent),
        "total_seconds": total_seconds(study),
        "left_out": study.left_out,
    }


def _result(one: Finding, classes: list[str]) -> dict[str, Any]:
    means = [{"arm": arm, "labels_per_class": budget, **plain(values)} for (arm, budget), values in one.means.items()]
    means += [{"arm": arm, "labels_per_class": "mean of budgets", **plain(values)} for arm, values in one.overall.items()]
    compared = [
        {**plain(comparison), "verdict": verdict.kind, "sentences": verdict.sentences}
        for comparison, verdict in zip(one.comparisons, one.verdicts, strict=True)
    ]
    return {
        **{name: plain(getattr(one, name)) for name in _OWN},
        "classes": classes,
        "paragraph": " ".join(one.sentences),
        "means": means,
        "comparisons": compared,
        "labels_needed": plain(one.savings),
    }


def plain(value: Any) -> Any:
    """Dataclasses, tuples and NaN as JSON has them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
