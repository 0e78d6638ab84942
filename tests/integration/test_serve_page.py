"""The page of `isograft serve` in a browser: answers, many images, labels, and a server that is busy, strict or gone."""

from __future__ import annotations

import base64
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.integration.conftest import CONTRASTS, PATIENCE, READABLE, Visit

import isograft
from isograft.data.synthetic import plan_images, write_images
from isograft.model import Model

TOKEN = "a-token-of-the-test-0123456789"
CLASSES = ("synthetic-benign", "synthetic-malignant")
SMALL = {"backbone": "resnet10t", "image_size": 32, "seed": 0}
NARROW = {"width": 360, "height": 740}


@dataclass
class Served:
    """A server in a thread of this process, and what it was started with; started again, it has the same address."""

    root: Path
    port: int = 0
    stop: Callable[[], None] = field(default=lambda: None)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def labels(self) -> Path:
        return self.root / "labels.parquet"

    def start(self) -> None:
        """Serve the model, with a token, images to label and a limit of 1 MB."""
        from isograft.serve.app import build_app
        from isograft.serve.desk import Bounds
        from isograft.serve.guard import Rules
        from isograft.serve.labeling import Labeling
        from isograft.serve.server import listen, run
        from isograft.serve.service import Service

        model = Model.load(self.root / "model")
        service = Service(model, Bounds(megabytes=1), Labeling(self.root / "next.csv", self.labels, list(CLASSES)))
        bound = listen("127.0.0.1", self.port)
        self.port = bound.getsockname()[1]
        thread = threading.Thread(target=run, args=(build_app(service, Rules.of("127.0.0.1", True, TOKEN)), service, bound), daemon=True)
        thread.start()

        def stop() -> None:
            service.draining = True
            thread.join(120)
            assert not thread.is_alive()
            service.close()
            bound.close()

        self.stop = stop


@pytest.fixture(scope="module")
def served(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A small calibrated classifier of synthetic images behind `isograft serve`, with a token and images to label."""
    for package in ("fastapi", "uvicorn", "python_multipart"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    root = tmp_path_factory.mktemp("serve")
    labeled = write_images(root / "labeled", plan_images(120, 0), 0, size=40)
    columns = {"label_column": "diagnosis", "group_column": "patient"}
    point = ("screening: synthetic-malignant sensitivity >= 0.9",)
    isograft.finetune(labeled, init="scratch", out=root / "model", strategy="probe", operating_point=point, **columns, **SMALL)
    write_images(root / "new", plan_images(7, 0, first_patient=20_000), 0, size=40, labels=False)
    first, second, *_ = sorted((root / "new").glob("*.png"))
    first.rename(first.with_name('a "name", with #1 and 5%.png'))
    (root / "new" / "broken.png").write_bytes(second.read_bytes()[:200])
    (root / "new" / "words.jpg").write_text("no image at all")
    write_images(root / "pool", plan_images(6, 0, first_patient=30_000), 0, size=40, labels=False)
    rows = sorted(path.name for path in (root / "pool").glob("*.png"))
    pl.DataFrame({"path": [f"pool/{name}" for name in rows], "why": "it is new"}).write_csv(root / "next.csv")
    made = Served(root)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def opened(browser: Any, served: Served) -> Iterator[Any]:
    """Opens the page; in the end nothing was asked of another server, and the console is clean but for refusals that the page shows."""
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE)
    visits: list[Visit] = []

    def visit(fragment: str = f"#token={TOKEN}", before: Any = None, **options: Any) -> Any:
        made = Visit.of(browser, accept_downloads=True, **options)
        visits.append(made)
        page = made.page
        if before is not None:
            before(page)
        page.goto(f"{served.origin}/{fragment}", wait_until="load")
        return page

    yield visit
    for made in visits:
        assert [text for text in made.complaints if "Failed to load resource" not in text] == []
        assert [url for url in made.requests if not url.startswith((f"{served.origin}/", "data:", "blob:"))] == []
        assert not [url for url in made.requests if TOKEN in url]
        made.page.context.close()


def images(served: Served) -> list[Path]:
    """Images the model has not seen, good ones only."""
    return [path for path in sorted((served.root / "new").glob("*.png")) if path.name != "broken.png"]


def give(page: Any, path: Path, tab: str = "one") -> None:
    """Choose a file in a tab."""
    page.click(f"#tab-{tab}")
    page.locator(f"#panel-{tab} input[type=file]").first.set_input_files(path)


def file_in_page(page: Any, path: Path) -> Any:
    """A file as an object of the page, wrapped as what is pasted or dropped."""
    make = """([name, text]) => {
      const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
      const carried = new DataTransfer();
      carried.items.add(new File([bytes], name, { type: 'image/png' }));
      return carried;
    }"""
    return page.evaluate_handle(make, [path.name, base64.b64encode(path.read_bytes()).decode()])


def predicted(served: Served, path: Path, tmp_path: Path) -> dict[str, Any]:
    """What `isograft predict` says of an image."""
    return isograft.predict(served.root / "model", path, out=tmp_path / f"{path.stem}.csv").row(0, named=True)


def test_the_answer_comes_first_and_the_heatmap_follows_the_slider(opened: Any, served: Served, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    page, image = opened(), images(served)[1]
    give(page, image)
    told = predicted(served, image, tmp_path)
    held = [name for name in told["prediction_set"].split("|") if name in CLASSES]
    words = {0: "Fits no class well", 1: "".join(held), 2: f"{' or '.join(held)} cannot be told apart"}[len(held)]
    expect(page.locator(".verdict-title")).to_have_text(words)
    expect(page.locator(".warning-title")).to_have_count(int(told["abstain"]))
    numbers = page.locator(".bars .number").evaluate_all("all => all.map(one => Number(one.title))")
    assert numbers == sorted((told[f"p_{name}"] for name in CLASSES), reverse=True)
    expect(page.locator(".point-state")).to_contain_text("positive" if told["screening"] else "negative")

    heat = page.locator(".layers .over")
    expect(heat).to_have_css("opacity", "0.6")
    slider = page.get_by_label("Strength of the colours")
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(heat).to_have_css("opacity", "0.65")
    page.keyboard.press("Home")
    expect(heat).to_have_css("opacity", "0")
    assert slider.get_attribute("aria-valuetext") == "off, the image alone"
    before = heat.get_attribute("src")
    page.get_by_label("What speaks for").select_option(next(name for name in CLASSES if name != told["predicted"]))
    expect(heat).not_to_have_attribute("src", before)
    expect(heat).to_have_css("opacity", "0")
    expect(page.locator(".case")).to_have_count(6)


def test_an_image_can_be_pasted_and_dropped(opened: Any, served: Served) -> None:
    from playwright.sync_api import expect

    page = opened()
    page.click("#tab-one")
    for path, event in zip(images(served)[1:3], ("paste", "drop"), strict=True):
        kind, name = {"paste": ("ClipboardEvent", "clipboardData"), "drop": ("DragEvent", "dataTransfer")}[event]
        handed = """([carried, event, kind, name]) =>
          document.body.dispatchEvent(new window[kind](event, { [name]: carried, bubbles: true }))"""
        page.evaluate(handed, [file_in_page(page, path), event, kind, name])
        expect(page.locator(".file-name")).to_have_text(path.name)
        expect(page.locator(".verdict-title")).not_to_be_empty()


def test_many_images_give_the_very_table_of_predict(opened: Any, served: Served, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    page, folder = opened(), served.root / "new"
    give(page, sorted(folder.iterdir()), "many")
    expect(page.locator(".summary")).to_contain_text("2 files without an answer")
    expect(page.get_by_role("button", name="Clear the list")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV").click()
    isograft.predict(served.root / "model", folder, out=tmp_path / "predictions.csv")
    assert Path(download.value.path()).read_bytes() == (tmp_path / "predictions.csv").read_bytes()

    rows = page.locator(".answers tbody tr")
    expect(rows).to_have_count(len(list(folder.iterdir())))
    page.get_by_role("button", name=CLASSES[1], exact=True).click()
    shown = page.locator(".answers tbody tr:not(.is-bad) td.number:nth-child(7)").all_inner_texts()
    values = [float(re.sub(r"[^\d.]", "", text)) for text in shown]
    assert values == sorted(values, reverse=True) and len(values) == len(images(served))
    page.get_by_role("button", name=images(served)[1].name).click()
    expect(page.locator("#panel-one .file-name")).to_have_text(images(served)[1].name)


def test_real_photographs_give_the_very_table_of_predict(opened: Any, served: Served, real_data: Path, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    folder = tmp_path / "photographs"
    folder.mkdir()
    for path in sorted((real_data / "skin" / "ham10000" / "images").glob("*.jpg"))[:6]:
        shutil.copy(path, folder)
    page = opened()
    give(page, sorted(folder.iterdir()), "many")
    expect(page.locator(".summary")).to_contain_text("6 images answered")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV").click()
    isograft.predict(served.root / "model", folder, out=tmp_path / "predictions.csv")
    assert Path(download.value.path()).read_bytes() == (tmp_path / "predictions.csv").read_bytes()


def test_a_name_that_a_spreadsheet_would_run_is_written_as_the_same_file_and_said_so(opened: Any, served: Served, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    odd = tmp_path / "=1+1.png"
    shutil.copy(images(served)[1], odd)
    page = opened()
    give(page, odd, "many")
    expect(page.locator(".hint")).to_contain_text("./ before it")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV").click()
    uri = pl.read_csv(download.value.path())["uri"][0]
    assert uri == "./=1+1.png" and (tmp_path / uri).samefile(odd)


def test_a_busy_server_is_asked_again_when_it_says(opened: Any, served: Served) -> None:
    from playwright.sync_api import expect

    asked: list[str] = []
    shortened = """const [later, waits] = [window.setTimeout, []];
      window.waits = waits;
      window.setTimeout = (act, wait = 0, ...given) => (waits.push(wait), later(act, Math.min(wait, 50), ...given));"""

    def busy(route: Any) -> None:
        asked.append(route.request.url)
        if len(asked) == 1:
            route.fulfill(status=429, headers={"Retry-After": "60"}, json={"detail": "come back"})
        else:
            route.continue_()

    def prepared(page: Any) -> None:
        page.add_init_script(shortened)
        page.route("**/api/predict", busy)

    page = opened(before=prepared)
    give(page, images(served)[1], "many")
    expect(page.locator(".summary")).to_contain_text("1 image answered")
    assert len(asked) == 2 and max(page.evaluate("waits")) > 40_000


def test_one_table_never_mixes_the_answers_of_two_models(opened: Any, served: Served) -> None:
    from playwright.sync_api import expect

    asked: list[Any] = []

    def another_model_after_the_first(route: Any) -> None:
        asked.append(route)
        if len(asked) == 1:
            route.continue_()
        elif len(asked) == 3:  # both wait for their answer by then: the first answer stops the other
            asked[1].fulfill(json={"model": "0" * 64, "answers": []})
        elif len(asked) > 3:
            route.abort()

    page = opened(before=lambda page: page.route("**/api/predict", another_model_after_the_first))
    first, second, third = images(served)[1:4]
    give(page, first, "many")
    expect(page.locator(".summary")).to_contain_text("1 image answered")
    page.locator("#panel-many input[type=file]").first.set_input_files([second, third])
    expect(page.locator("#connection")).to_contain_text("the server has another model now; load this page again.")
    expect(page.locator(".summary")).to_contain_text("1 image answered · ")
    expect(page.locator(".summary")).to_contain_text("2 still to ask")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV").click()
    assert pl.read_csv(download.value.path())["uri"].to_list() == [first.name]
    give(page, first)
    expect(page.locator("#panel-one .sentence")).to_have_text("the server has another model now; load this page again")
    assert len(asked) == 3  # nothing more is sent to a server that is another


def test_what_comes_late_for_an_earlier_image_is_not_shown(opened: Any, served: Served) -> None:
    from playwright.sync_api import expect

    held: list[Any] = []

    def hold_first(route: Any) -> None:
        held.append(route)
        if len(held) > 1:
            route.continue_()

    page = opened(before=lambda page: page.route("**/api/predict", hold_first))
    first, second = images(served)[1:3]
    give(page, first)
    expect(page.locator(".waiting")).to_be_visible()
    give(page, second)
    expect(page.locator(".verdict-title")).not_to_be_empty()
    late = {"id": "0" * 16, "part": "", "width": 1, "height": 1, "note": "", "predicted": "late", "probabilities": {"late": 1.0}}
    unknown = dict.fromkeys(("prediction_set", "abstain", "out_of_domain", "domain_distance"))
    held[0].fulfill(json={"model": Model.load(served.root / "model").content_hash, "answers": [late | unknown | {"points": {}}]})
    expect(page.locator(".layers .over")).to_be_visible()
    expect(page.locator(".file-name")).to_have_text(second.name)
    assert page.locator(".verdict-title").inner_text() != "late"


def test_a_bad_file_gets_a_sentence_and_the_page_goes_on(opened: Any, served: Served, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    large = tmp_path / "large.png"
    large.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1_200_000))
    page = opened()
    for path, sentence in ((large, "at most 1 MB"), (served.root / "new" / "words.jpg", "cannot be used"), (images(served)[1], None)):
        give(page, path)
        expect(page.locator(".sentence" if sentence else ".verdict-title")).to_contain_text(sentence or "synthetic")


def test_labels_are_on_the_disk_at_every_key_and_a_reload_goes_on_where_it_was(opened: Any, served: Served) -> None:
    from playwright.sync_api import expect

    page = opened()
    page.click("#tab-label")
    place, state, shown = page.locator(".place"), page.locator(".save-state"), page.locator(".label-stage:not(.is-waiting) img")

    def press(key: str, number: int, saved: str = "") -> None:
        shown.wait_for()
        page.keyboard.press(key)
        expect(place).to_contain_text(f"Image {number} of 6")
        expect(page.locator(".label-stage")).to_have_attribute("data-row", str(number - 1))
        if saved:
            expect(state).to_contain_text(f"Saved: {saved}")

    def on_disk() -> dict[str, str]:
        frame = pl.read_parquet(served.labels)
        return dict(frame.select("uri", "label").rows())

    uris = [f"pool/{path.name}" for path in sorted((served.root / "pool").glob("*.png"))]
    assert not page.locator(".suggestion").is_visible()
    press("1", 2, f"image 1 is {CLASSES[0]}")
    assert on_disk() == {uris[0]: CLASSES[0]}
    press("2", 3, f"image 2 is {CLASSES[1]}")
    press("1", 4, f"image 3 is {CLASSES[0]}")
    press("u", 3, "image 3 has no label")
    assert on_disk() == {uris[0]: CLASSES[0], uris[1]: CLASSES[1]}
    press("s", 4)
    press("ArrowLeft", 3)
    press("ArrowLeft", 2)
    press("1", 4, f"image 2 is {CLASSES[0]}")
    press("Control+z", 2, f"image 2 is {CLASSES[1]}")
    expect(page.locator(".count")).to_have_text("2 of 6 labeled")
    page.reload()
    expect(place).to_contain_text("Image 3 of 6")
    for number in (4, 5, 6):
        press("2", number, f"image {number - 1} is {CLASSES[1]}")
    press("2", 6, f"image 6 is {CLASSES[1]}")
    expect(page.locator(".note pre")).to_contain_text("isograft finetune labels.parquet --init model")
    assert on_disk() == {uris[0]: CLASSES[0], **dict.fromkeys(uris[1:], CLASSES[1])}


def test_a_label_that_cannot_be_saved_is_kept_and_sent_again(opened: Any, served: Served) -> None:
    from playwright.sync_api import expect

    tries: list[str] = []
    held: list[Any] = []
    seen = False

    def fail_first(route: Any) -> None:
        if route.request.method == "PUT":
            tries.append(route.request.post_data)
            if len(tries) == 1:
                route.fulfill(status=500, json={"detail": "the disk is full"})
                return
            if not seen:  # what is said of the first try goes with the second
                held.append(route)
                return
        route.continue_()

    page = opened(before=lambda page: page.route("**/api/labeling/*", fail_first))
    page.click("#tab-label")
    page.locator(".label-stage:not(.is-waiting) img").wait_for()
    page.keyboard.press("2")
    expect(page.locator(".save-state")).to_contain_text("not saved yet and kept here; trying again. the disk is full")
    seen = True
    for route in held:
        route.continue_()
    expect(page.locator(".save-state")).to_contain_text("Saved")
    assert [json.loads(body)["label"] for body in tries] == [CLASSES[1]] * 2 and tries[0] == tries[1]


def test_a_label_that_the_server_refuses_is_taken_back_and_said_so(opened: Any, served: Served) -> None:
    from playwright.sync_api import expect

    def refuse(route: Any) -> None:
        if route.request.method == "PUT":
            route.fulfill(status=409, json={"detail": "the same pixels are labeled otherwise"})
        else:
            route.continue_()

    page = opened(before=lambda page: page.route("**/api/labeling/*", refuse))
    page.click("#tab-label")
    page.locator(".label-stage:not(.is-waiting) img").wait_for()
    before = page.locator(".count").inner_text()
    page.keyboard.press("1")
    expect(page.locator(".save-state")).to_contain_text(f"Image 1 was not labeled {CLASSES[0]}, and stays as it was")
    expect(page.locator(".count")).to_have_text(before)


def test_a_page_of_an_earlier_table_labels_no_image_of_the_next(opened: Any, served: Served) -> None:
    from playwright.sync_api import expect

    page, table = opened(), served.root / "next.csv"
    page.click("#tab-label")
    page.locator(".label-stage:not(.is-waiting) img").wait_for()
    before, labels = table.read_text(), pl.read_parquet(served.labels)
    lines = before.splitlines()
    served.stop()
    table.write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    served.start()
    try:
        page.keyboard.press("1")
        page.keyboard.press("2")
        for place in ("#connection", ".save-state"):
            expect(page.locator(place)).to_contain_text("the server has another table of images now; load this page again.")
        expect(page.locator(".save-state")).to_contain_text("kept in this tab")
        count = page.locator(".count").inner_text()
        page.keyboard.press("2")
        expect(page.locator(".count")).to_have_text(count)
        page.reload()
        page.locator(".label-stage:not(.is-waiting) img").wait_for()
        assert pl.read_parquet(served.labels).equals(labels)
    finally:
        served.stop()
        table.write_text(before)
        served.start()


def test_the_token_leaves_the_address_bar_and_a_wrong_one_is_asked_for_again(opened: Any, served: Served) -> None:
    from playwright.sync_api import expect

    page = opened()
    expect(page.locator("#name")).to_have_text("model")
    assert TOKEN not in page.url
    page.reload()
    expect(page.locator("#name")).to_have_text("model")
    page = opened(fragment="")
    page.get_by_label("Token", exact=True).fill("not the token")
    page.keyboard.press("Enter")
    expect(page.locator("dialog [role=alert]")).to_contain_text("not the one")
    page.get_by_label("Token", exact=True).fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.locator("#name")).to_have_text("model")
    assert page.locator("dialog").count() == 0


def test_a_model_card_is_read_as_text_whatever_it_holds(opened: Any, served: Served) -> None:
    from playwright.sync_api import expect

    card = "---\nx: y\n---\n# Title\n\n<img src=x onerror=alert(1)> **bold** `a|b` [click](javascript:alert(1)) [web](https://example.org)\n\n| a | b |\n|---|---|\n| 1 | x\\|y |\n\n- one\n- two\n  - inner\n\n```\n<b>code</b>\n```\n"  # noqa: E501

    def hostile(route: Any) -> None:
        told = route.fetch().json()
        route.fulfill(json={**told, "card": card})

    page = opened(before=lambda page: page.route("**/api/model", hostile))
    page.click("#tab-about")
    shown = page.locator(".card")
    expect(shown).to_contain_text("<img src=x onerror=alert(1)>")
    assert shown.locator("img, script, b").count() == 0
    assert shown.locator("a").evaluate_all("all => all.map(one => one.href)") == ["https://example.org/"]
    assert shown.locator("td").all_inner_texts() == ["1", "x|y"]
    assert shown.locator("h3, strong, li li, pre").all_inner_texts() == ["Title", "bold", "inner", "<b>code</b>"]


def test_every_tab_fits_a_narrow_phone_and_can_be_read_in_the_light_and_in_the_dark(opened: Any, served: Served) -> None:
    from playwright.sync_api import expect

    page = opened(viewport=NARROW, is_mobile=True, has_touch=True)
    give(page, images(served)[1])
    expect(page.locator(".case")).to_have_count(6)
    expect(page.locator(".layers .over")).to_be_visible()
    give(page, sorted((served.root / "new").iterdir()), "many")
    expect(page.get_by_role("button", name="Clear the list")).to_be_visible()
    for tab in ("one", "many", "label", "about"):
        page.click(f"#tab-{tab}")
        if tab == "label":
            page.locator(".label-stage:not(.is-waiting) img").wait_for()
        page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"], tab
        assert page.locator(".research").is_visible()
        outside = """all => all.filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.wide, pre, .skip'))
          .map(e => e.outerHTML)"""
        assert page.locator(f"#panel-{tab} *").evaluate_all(outside) == [], tab
        small = "all => all.filter(e => e.offsetParent && e.getBoundingClientRect().height < 43.5).map(e => e.outerHTML)"
        assert page.locator(f"#panel-{tab} button").evaluate_all(small) == [], tab
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) > 100
        assert [(round(contrast, 2), text) for contrast, text in contrasts if contrast < READABLE] == [], scheme
    page.emulate_media(color_scheme="light")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Appearance").click(click_count=2)
    expect(page.locator("body")).not_to_have_css("background-color", ground)


def test_a_server_that_is_gone_is_waited_for_and_the_question_is_asked_again(opened: Any, served: Served) -> None:
    from playwright.sync_api import expect

    page = opened()
    give(page, images(served)[1])
    expect(page.locator(".verdict-title")).not_to_be_empty()
    served.stop()
    give(page, images(served)[2])
    expect(page.locator("#connection")).to_contain_text("The server does not answer")
    with page.expect_request("**/health"):  # before the server is back: the page finds that out by itself, and the button goes
        page.get_by_role("button", name="Try now").click()
    served.start()
    expect(page.locator(".verdict-title")).not_to_be_empty()
    expect(page.locator(".file-name")).to_have_text(images(served)[2].name)
    expect(page.locator("#connection")).not_to_contain_text("does not answer")
