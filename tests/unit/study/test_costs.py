"""What arms cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from isograft.study.costs import ancestors, costs, total_seconds
from isograft.study.folder import StudyFolder


@pytest.fixture
def study(tmp_path: Path, fabricate: Callable[..., Path]) -> StudyFolder:
    return StudyFolder.read(fabricate(tmp_path / "s", skill={"scratch": 0.0, "in-domain": 0.3}, repeats=2, budgets=(10, 25)))


def test_an_arm_costs_its_runs_and_what_they_start_from(study: StudyFolder) -> None:
    scratch, pretrained = costs(study)
    assert (scratch.arm, scratch.runs, scratch.run_seconds, scratch.before_seconds, scratch.before_jobs) == ("scratch", 4, 6.0, 0.0, 0)
    assert (pretrained.before_seconds, pretrained.before_images, pretrained.before_jobs) == (600.0, 50_000, 1)
    assert scratch.run_images == pytest.approx((20 * 20 + 50 * 20) / 2)


def test_a_shared_pretraining_counts_once_in_the_total(study: StudyFolder) -> None:
    assert total_seconds(study) == pytest.approx(600 + 8 * 6)


def test_ancestors_are_followed_to_the_first_and_named_once(study: StudyFolder) -> None:
    chain: dict[str, Any] = {"c": {"parents": ["b", "a"]}, "b": {"parents": ["a"]}, "a": {"parents": []}}
    assert ancestors(replace(study, ledger=chain), "c") == ["a", "b"]


def test_what_the_ledger_does_not_say_is_not_made_up(study: StudyFolder) -> None:
    bare = {key: {name: value for name, value in entry.items() if name != "parents"} for key, entry in study.ledger.items()}
    assert costs(replace(study, ledger=bare))[1].before_seconds is None
    assert costs(replace(study, ledger={}))[0].run_seconds is None and total_seconds(replace(study, ledger={})) is None
    assert json.dumps(total_seconds(study))
