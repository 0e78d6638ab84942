"""The reporting checklist: what the record tells is told, and what only people know stays open."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.unit.report.made_up import made_up

from isograft.assess.metrics import score
from isograft.report.checklist import checklist, filled, lines
from isograft.report.checklist_items import TOPICS
from isograft.report.evaluation import Evaluated

BARE = {"n_images": 4, "n_groups": 4} | score([0, 0, 1, 1], [[0.9, 0.1]] * 2 + [[0.2, 0.8]] * 2, ("a|b", "$c$"))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    return made_up(tmp_path_factory.mktemp("full"), n=120, resamples=50)


def test_all_27_main_items_are_there_in_their_order() -> None:
    numbers = [int(topic.number) for topic in TOPICS if topic.number]
    assert sorted(set(numbers)) == list(range(1, 28)) and numbers == sorted(numbers)


def test_every_topic_that_a_record_can_know_is_answered_by_a_full_one(full: Evaluated) -> None:
    told = lines(full.metrics, full.passport, full.columns)
    unanswered = {line.topic.known for line in told if line.topic.known and not line.answer}
    assert unanswered == {"eligibility"}  # no filter was given
    assert all(not line.answer for line in told if not line.topic.known)


def test_what_only_people_know_is_open_and_says_what_to_add(full: Evaluated) -> None:
    for line in lines(full.metrics, full.passport):
        assert line.state == ("open" if not line.answer else "in part" if line.topic.to_add else "filled")
        assert line.to_add or line.state == "filled"


def test_less_is_known_of_a_bare_record_and_nothing_is_made_up(full: Evaluated) -> None:
    bare, whole = filled(BARE), filled(full.metrics, full.passport, full.columns)
    assert bare["filled"] < whole["filled"] and sum(whole[name] for name in ("filled", "in part", "open")) == whole["all"] == bare["all"]
    answers = {line.topic.known: line.answer for line in lines(BARE)}
    assert answers["calibration"] and not answers["training"] and not answers["subgroups"] and not answers["measures"]


def test_a_leak_is_not_called_independent(full: Evaluated) -> None:
    leaked = full.metrics | {"leakage": {"images": 3, "allowed": True}}
    answers = {line.topic.known: line.answer for line in lines(leaked)}
    assert answers["independence"].startswith("3 tested images were seen by the model")


def test_the_page_is_a_table_that_odd_names_do_not_break(full: Evaluated) -> None:
    text = checklist(BARE | {"model": {"name": "a|b <i>"}})
    assert "doi:10.1136/bmj-2023-078378" in text and "doi:10.1148/ryai.240300" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len([row for row in rows if not row.startswith(("| item", "|---"))]) == len(TOPICS)
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows)
    assert "<i>" not in text.replace("\\<i\\>", "") and "\\$c\\$" in text


def test_the_page_counts_what_it_holds(full: Evaluated, tmp_path: Path) -> None:
    text = checklist(full.metrics, full.passport, full.columns)
    counts = filled(full.metrics, full.passport, full.columns)
    assert f"{counts['filled']} of {counts['all']} topics are filled in from the record, {counts['in part']} in part" in text
    assert text.count("| CLAIM |") == sum(not topic.number for topic in TOPICS)
