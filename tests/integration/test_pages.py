"""The pages in a browser: quiet, self-contained, fit for a phone, and readable in the light and in the dark."""

from __future__ import annotations

import json
import runpy
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file
from tests.integration.conftest import CONTRASTS, READABLE, Visit
from tests.unit.data.test_look import lesion
from tests.unit.report.made_up import SKIN, made_up

import isograft
from isograft.passport import render, sha256
from isograft.report.evaluation import evaluation_page
from isograft.study.report import write_report

PAGES = ("report.html", "evaluation-pretrained/report.html")
STUDY = "the report of a study"
AUDIT = "the page of an audit"
EXPLAIN = "the page of an explanation"
MADE = {STUDY: "study", AUDIT: "audited", EXPLAIN: "explained"}
EVALUATIONS: dict[str, tuple[tuple[str, ...], int, dict[str, Any]]] = {
    "a full evaluation of seven classes": (SKIN, 240, {}),
    "a full evaluation of two classes": (("benign", "melanoma"), 120, {"skill": 1.5, "own_split": True}),
    "a full evaluation of forty classes": (tuple(f"diagnosis number {k} of the catalogue" for k in range(40)), 400, {"absent": 2}),
    "a bare evaluation": (("a", "b", "c"), 30, {"judged": False, "audit": None, "heatmaps": None, "history": None, "passport": None}),
}
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a made-up study of three arms under two protocols."""
    source = Path(__file__).resolve().parents[1] / "unit" / "study" / "fabricated.py"
    folder = tmp_path_factory.mktemp("study") / "out"
    skill = {"scratch": -0.3, "imagenet": 0.0, "in-domain": 0.6}
    runpy.run_path(str(source))["fabricate"](folder, skill=skill, protocols=("clean", "paper"), inflation=0.2)
    write_report(folder)
    return folder / "report.html"


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of an audit that found copies, conflicts, a broken file and overlaps of two data sets."""
    root = tmp_path_factory.mktemp("audit")
    for place, data in enumerate(("pool", "labeled")):
        for number in range(24):
            path = root / data / ("mel", "nv")[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), lesion(number + 12 * place))
    cv2.imwrite(str(root / "labeled" / "mel" / "copy.jpg"), lesion(13)[:, ::-1])
    (root / "pool" / "nv" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    isograft.audit([root / "pool", root / "labeled"], out=root / "audit", cache_dir=root / "cache")
    return root / "audit" / "audit.html"


@pytest.fixture(scope="module")
def explained(demo: tuple[Path, pl.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of an explanation with cases that can be found and one that cannot, filters, and a broken file."""
    root = tmp_path_factory.mktemp("explain")
    model = shutil.copytree(demo[0] / "classifier-pretrained", root / "model")
    shutil.copytree(demo[0] / "new-images", root / "new")
    (root / "new" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    record = json.loads((model / "run.json").read_text())
    record["images"] = {"folder": record["images"]["folder"]}
    (model / "run.json").write_text(json.dumps(record))
    passport = isograft.Model.load(model).passport
    split = pl.read_parquet(model / "split.parquet").select("id", "uri", "label")
    cases = split.with_columns(uri=pl.when(pl.int_range(pl.len()) % 3 > 0).then("uri").otherwise(pl.lit("gone.png")))
    cases.write_parquet(model / "cases.parquet")
    embeddings = np.random.default_rng(0).normal(size=(len(split), 1, passport.backbone.features)).astype(np.float32)
    save_file({"embeddings": embeddings}, model / "cases.safetensors")
    files = {name: sha256((model / name).read_bytes()) for name in passport.files if name != "model.json"}
    (model / "model.json").write_bytes(render(passport.seal(files)))
    isograft.explain(model, root / "new", out=root / "out", features=True)
    page = (root / "out" / "explain.html").read_text()
    assert "not found here" in page and "Training image labeled" in page and "broken.png" in page
    return root / "out" / "explain.html"


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages of made-up evaluations, with everything that metrics.json can hold and with next to nothing."""
    folder, pages = tmp_path_factory.mktemp("evaluations"), {}
    for number, (name, (classes, images, more)) in enumerate(EVALUATIONS.items()):
        pages[name] = folder / f"{number}.html"
        pages[name].write_text(evaluation_page(made_up(folder, classes, images, resamples=100, **more)), encoding="utf-8")
    return pages


@pytest.fixture(params=[*PAGES, *MADE, *EVALUATIONS])
def path(request: pytest.FixtureRequest) -> Path:
    if request.param in EVALUATIONS:
        pages: dict[str, Path] = request.getfixturevalue("evaluations")
        return pages[request.param]
    if request.param in MADE:
        made: Path = request.getfixturevalue(MADE[request.param])
        return made
    told: tuple[Path, pl.DataFrame] = request.getfixturevalue("demo")
    return told[0] / request.param


def visit(browser: Any, path: Path, **options: Any) -> Visit:
    """Open a page and wait until it is whole."""
    seen = Visit.of(browser, **options)
    seen.page.goto(path.as_uri(), wait_until="load")
    return seen


def test_a_page_says_nothing_on_the_console_and_asks_for_nothing_but_itself(browser: Any, path: Path) -> None:
    seen = visit(browser, path)
    assert seen.complaints == []
    assert [url for url in seen.requests if not url.startswith("data:")] == [path.as_uri()]


def test_every_picture_is_drawn_and_described(browser: Any, path: Path) -> None:
    page = visit(browser, path).page
    measures = "all => all.map(one => [one.naturalWidth, one.naturalHeight, one.getBoundingClientRect().width, one.alt.length])"
    pictures = page.eval_on_selector_all("img", measures)
    assert len(pictures) >= 3
    assert all(min(picture) > 0 for picture in pictures)


def test_a_page_fits_a_phone_and_only_tables_and_listings_scroll_inside_it(browser: Any, path: Path) -> None:
    page = visit(browser, path, viewport=PHONE, is_mobile=True).page
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    outside = "all => all.filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.wide, pre')).map(e => e.outerHTML)"
    assert page.eval_on_selector_all("body *", outside) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_is_readable_in_the_light_and_in_the_dark(browser: Any, path: Path, scheme: str) -> None:
    page = visit(browser, path, color_scheme=scheme).page
    page.eval_on_selector_all("details", "all => all.forEach(one => one.open = true)")
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 20
    assert [(round(contrast, 2), text) for contrast, text in contrasts if contrast < READABLE] == []


def test_a_page_is_dark_where_the_reader_wants_it_dark_but_not_on_paper(browser: Any, path: Path) -> None:
    page = visit(browser, path, color_scheme="dark").page
    ground = "getComputedStyle(document.body).backgroundColor"
    assert sum(int(number) for number in page.evaluate(ground).strip("rgb()").split(",")) < 150
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"


def test_links_lead_to_places_on_the_page_and_scrolling_tables_can_be_reached_by_keyboard(browser: Any, path: Path) -> None:
    page = visit(browser, path).page
    targets = page.eval_on_selector_all(
        "a", "all => all.map(one => [one.getAttribute('href'), !!document.querySelector(one.hash || 'none')])"
    )
    assert all(there for target, there in targets if target.startswith("#"))
    assert not [target for target, _ in targets if "//" in target]
    hidden = "all => all.filter(e => e.scrollWidth > e.clientWidth && e.tabIndex < 0).map(e => e.textContent.trim().slice(0, 40))"
    if path.parent.name.startswith("evaluations"):
        assert page.eval_on_selector_all(".wide", hidden) == []


def test_nothing_is_cut_off_on_paper(browser: Any, evaluations: dict[str, Path]) -> None:
    """A4 less margins of 15 mm is 680 px wide."""
    page = visit(browser, evaluations["a full evaluation of seven classes"], viewport={"width": 680, "height": 960}).page
    page.emulate_media(media="print")
    outside = "all => all.filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.textContent.trim().slice(0, 40))"
    assert page.eval_on_selector_all("main table, main img, main p", outside) == []


def test_headings_begin_with_the_title_and_skip_no_level(browser: Any, path: Path) -> None:
    levels = visit(browser, path).page.eval_on_selector_all("h1, h2, h3, h4", "all => all.map(one => Number(one.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
