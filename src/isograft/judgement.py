"""How a model's answers are to be taken: calibrated, as sets, with thresholds, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from isograft.cases import Cases
    from isograft.inference import Answer
    from isograft.train.evidence import Evidence


class Judgement:
    """Stub."""

    def __init__(self, record: dict[str, Any], cases: Cases | None) -> None:
        self.record, self.cases = record, cases

    @classmethod
    def of(cls, record: dict[str, Any], cases: Cases | None) -> Judgement:
        """Stub."""
        return cls(record, cases)

    def probabilities(self, answers: Sequence[Answer]) -> Any:
        """Stub."""
        return np.stack([answer.probabilities() for answer in answers])

    def verdicts(self, p: Any, answers: Sequence[Answer], ids: Sequence[str]) -> dict[str, Any]:
        """Stub."""
        return {}


def judge(evidence: Evidence, classes: Sequence[str], points: Sequence[str]) -> dict[str, Any]:
    """Stub."""
    return {"missing": evidence.missing}
