"""The report of a study: what it says, and that it says it safely."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isograft.study.folder import StudyFolder
from isograft.study.protocols import protocol_effects
from isograft.study.report import write_report

ORDER = (
    "Verdict",
    "Figures of every arm",
    "Paired differences",
    "Labels and what they bring",
    "What the protocol does",
    "Pool images and what was removed",
    "Costs",
    "Left out",
    "How this was computed, and what it does not show",
)


def _text(folder: Path, name: str = "report.html") -> str:
    return (folder / name).read_text(encoding="utf-8")


def test_the_page_has_its_parts_in_order_and_loads_nothing(told: tuple[Path, dict[str, Any]]) -> None:
    page = _text(told[0])
    assert tuple(re.findall(r"<h2[^>]*>(.*?)</h2>", page)) == ORDER
    assert not re.search(r"(?:src|href)=\"(?!data:)", page) and "<script" not in page
    assert page.index("Task lesions") < page.index("<h2")


def test_every_picture_tells_its_numbers_in_words(told: tuple[Path, dict[str, Any]]) -> None:
    alts = re.findall(r'<img src="data:image/svg[^"]*" alt="([^"]*)"', _text(told[0]))
    assert len(alts) == 4
    mean = next(one for one in told[1]["results"][0]["means"] if one["arm"] == "in-domain" and one["labels_per_class"] == 10)
    assert f"in-domain {mean['macro_f1']['value']:.3f} (" in alts[2]
    assert f"in-domain − scratch {told[1]['results'][0]['comparisons'][1]['overall']['value']:+.3f}" in alts[0]


def test_markdown_and_page_hold_the_same_tables(told: tuple[Path, dict[str, Any]]) -> None:
    page, text = _text(told[0]), _text(told[0], "report.md")
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", page)]
    plain = text.replace("\\", "")
    assert len(rows) > 60
    for row in rows:
        assert "| " + " | ".join(cell.replace("&lt;", "<").replace("\xa0", " ") for cell in row) + " |" in plain


def test_the_verdict_says_what_the_summary_says(told: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = told
    page = _text(folder).replace("&lt;", "<")
    clean = summary["results"][0]
    assert clean["headline"] in page
    assert {one["verdict"] for one in clean["comparisons"] if one["arm"] == "in-domain"} == {"gain"}
    assert all(one["sentences"] in page for one in clean["comparisons"])
    assert json.loads(_text(folder, "summary.json")) == json.loads(json.dumps(summary))


def test_the_protocol_inflates_what_was_inflated_and_its_figures_are_marked(told: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = told
    averaged = [one for one in summary["protocol_effects"] if one["labels_per_class"] is None]
    assert [one["arm"] for one in averaged] == ["scratch", "imagenet", "in-domain"]
    for mean in averaged:
        single = [one for one in summary["protocol_effects"] if one["arm"] == mean["arm"] and one["labels_per_class"] is not None]
        assert mean["effect"]["value"] == pytest.approx(sum(one["effect"]["value"] for one in single) / len(single))
    assert all(one["effect"]["low"] > 0 and one["protocol"] == "leaky-pool" for one in summary["protocol_effects"])
    assert _text(folder).count("not to be relied on") == 3
    assert protocol_effects(StudyFolder.read(folder), "accuracy")[0].figure > 0.5


def test_synthetic_images_are_called_synthetic_and_others_are_not(
    told: tuple[Path, dict[str, Any]], tmp_path: Path, fabricate: Any
) -> None:
    assert "Synthetic images." in _text(told[0]) and "**Synthetic images.**" in _text(told[0], "report.md")
    real = fabricate(tmp_path / "s", skill={"scratch": 0.0, "in-domain": 0.3}, title="Lesions", data="/data", repeats=3, budgets=(10,))
    write_report(real)
    assert "ynthetic" not in _text(real) and "ynthetic" not in _text(real, "report.md")


def test_the_same_study_gives_the_same_report(told: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = told
    before = [(folder / name).read_bytes() for name in ("report.html", "report.md", "summary.json")]
    write_report(folder)
    assert [(folder / name).read_bytes() for name in ("report.html", "report.md", "summary.json")] == before


def test_two_repeats_get_means_but_no_interval_and_no_verdict(tmp_path: Path, fabricate: Callable[..., Path]) -> None:
    summary = write_report(fabricate(tmp_path / "s", skill={"scratch": 0.0, "in-domain": 3.0}, repeats=2))
    (one,) = summary["results"][0]["comparisons"]
    assert one["verdict"] == "too few repeats to tell" and one["overall"]["low"] is None and one["overall"]["value"] > 0.1
    assert summary["results"][0]["labels_needed"] == []


def test_missing_runs_are_counted_aloud(tmp_path: Path, fabricate: Callable[..., Path]) -> None:
    folder = fabricate(tmp_path / "s", skill={"scratch": 0.0, "in-domain": 0.5}, skip=[("scratch", 10, 0), ("in-domain", 0, 1)])
    assert write_report(folder)["results"][0]["missing"] == 2
    assert "2 runs of this study are not there" in _text(folder)


def test_a_single_arm_is_reported_without_a_comparison(tmp_path: Path, fabricate: Callable[..., Path]) -> None:
    folder = fabricate(tmp_path / "s", skill={"scratch": 0.0}, repeats=3, budgets=(10,))
    assert write_report(folder)["results"][0]["headline"] == "Nothing was compared."
    assert "there is only one arm here" in _text(folder)


def test_more_than_two_classes_and_the_area_as_the_metric(tmp_path: Path, fabricate: Callable[..., Path]) -> None:
    folder = fabricate(
        tmp_path / "s", skill={"scratch": 0.0, "in-domain": 1.5}, classes=("nv", "mel", "bkl"), metric="macro_roc_auc", budgets=(10,)
    )
    summary = write_report(folder)
    assert summary["results"][0]["comparisons"][0]["verdict"] == "gain" and "ROC AUC +" in summary["results"][0]["paragraph"]


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_names_are_shown_as_text_and_local_paths_not_at_all(tmp_path: Path, fabricate: Callable[..., Path], name: str) -> None:
    folder = fabricate(
        tmp_path / "s", skill={"scratch": 0.0, "in-domain": 0.3}, title="<b>x</b> | *y*", data="/home/someone/data", repeats=3
    )
    write_report(folder)
    text = _text(folder, name)
    assert ("&lt;b&gt;x" if name.endswith("html") else r"\<b\>x\</b\> \| \*y\*") in text and "<b>x" not in text
    assert "/home/someone" not in text
