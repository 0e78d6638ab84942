"""The demo at a tiny scale, told once for all tests that look at what it leaves behind, and a browser that looks at pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.integration.faults import Runs, draw_images

from isograft.demo import Scale, tell
from isograft.settings import DemoSettings

NETWORK = {"backbone": "resnet10t", "image_size": 32, "epochs": 1, "batch_size": 16, "domain": "dermoscopy"}
TINY = Scale(pool=40, labeled=60, size=40, labels_per_class=5, test_fraction=0.4, predictions=4, pretrain=NETWORK, finetune={"epochs": 1})

READABLE = 4.5  # contrast of text, WCAG 2.2, 1.4.3
PATIENCE = 300_000  # milliseconds: a busy machine is no defect of a page

CONTRASTS = """() => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = colour => numbers(colour).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = element => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if ((numbers(colour)[3] ?? 1) > 0) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  return [...document.body.querySelectorAll('*')]
    .filter(element => [...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.textContent.trim()))
    .map(element => {
      const [a, b] = [light(getComputedStyle(element).color), light(ground(element))];
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.textContent.trim().slice(0, 40)];
    });
}"""


@dataclass
class Visit:
    """A page that was opened, what it said on the console and what it asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, browser: Any, **options: Any) -> Visit:
        """A page of its own, with patience, which is not opened yet."""
        seen = cls(browser.new_context(**options).new_page())
        seen.page.set_default_timeout(PATIENCE)
        seen.page.on("console", lambda message: seen.complaints.append(f"{message.type}: {message.text}"))
        seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        seen.page.on("request", lambda request: seen.requests.append(request.url))
        return seen


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class-per-folder tree of small images to train on."""
    return draw_images(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture
def train(images: Path, tmp_path: Path) -> Runs:
    """Trains tiny networks on them, side by side."""
    return Runs(images, tmp_path)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium, or a skip."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium (on Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"], timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pl.DataFrame]:
    """The folder of the demo and the table it returns."""
    out = tmp_path_factory.mktemp("demo") / "out"
    return out, tell(DemoSettings(out=out, seed=3), TINY)
