"""The page about an evaluation: nothing from outside, every picture described, every caveat in words."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from isograft.assess.metrics import score
from isograft.report.evaluation import Evaluated, evaluation_page
from isograft.report.limitations import limitations
from isograft.report.mistakes import confident_mistakes

VOID = {"meta", "img", "br", "link", "hr", "input"}


class _Outline(HTMLParser):
    """Collects tags and checks that they close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def make(tmp_path: Path, small_image: np.ndarray):
    def build(
        labels: list[int], p: list[list[float]], classes: tuple[str, ...] = ("nevus", "melanoma"), leaked: int = 0, **more: Any
    ) -> Evaluated:
        paths = []
        for row in range(len(labels)):
            paths.append(tmp_path / f"image{row}.png")
            cv2.imwrite(str(paths[-1]), small_image)
        metrics = score(labels, p, classes)
        metrics |= {"leakage": {"images": leaked, "allowed": leaked > 0}, "data": {"name": "lesions.csv"}, "n_distinct_images": len(labels)}
        names = [path.name for path in paths]
        return Evaluated(metrics, np.array(labels), np.array(p), classes, names, paths, "my-model", "my-model\n└─ pool", **more)

    return build


MIXED = ([0, 0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.05, 0.95], [0.6, 0.4]])


def test_the_page_is_well_formed_asks_nothing_of_anyone_and_describes_every_picture(make) -> None:
    page = evaluation_page(make(*MIXED, history={"step": ["0", "1"], "loss": ["2", "1"]}))
    outline = _Outline()
    outline.feed(page)
    assert outline.open == []
    images = [attributes for tag, attributes in outline.tags if tag == "img"]
    assert len(images) == 4 + 2
    assert all(len(image["alt"] or "") > 10 and (image["src"] or "").startswith("data:image/") for image in images)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in outline.tags}
    assert not re.search(r"https?://|url\(|@import|src=\"(?!data:)", page)
    assert 'lang="en"' in page and "width=device-width" in page
    headings = [tag for tag, _ in outline.tags if tag in {"h1", "h2"}]
    assert headings[0] == "h1" and headings.count("h1") == 1


def test_the_page_names_figures_counts_lineage_and_record(make) -> None:
    page = evaluation_page(make(*MIXED, record=[("data fingerprint", "feed")], left_out=["3 of 7 images have no label."]))
    for words in (
        "Tested on 4 images",
        "balanced accuracy",
        "0.500",
        "lesions.csv",
        "└─ pool",
        "feed",
        "3 of 7 images",
        "No two have the same pixels",
    ):
        assert words in page
    assert "Not shown: the model folder holds no history" in page
    assert "Leaked." not in page and "Synthetic images." not in page


def test_mistakes_are_shown_most_confident_first_with_their_probabilities(make) -> None:
    labels, p = MIXED
    assert confident_mistakes(np.array(labels), np.array(p)).tolist() == [1, 3]
    page = evaluation_page(make(labels, p))
    assert page.index("image1.png") < page.index("image3.png") and "image0.png" not in page
    assert "true <b>nevus</b> (0.200)<br>predicted <b>melanoma</b> (0.800)" in page
    assert "2 of 4 images were classified otherwise than labeled" in page


def test_a_mistake_whose_file_is_gone_stays_in_the_list(make) -> None:
    tested = make(*MIXED)
    tested.places[1].unlink()
    assert "No picture." in evaluation_page(tested)


def test_no_mistake_is_said_in_words(make) -> None:
    assert "None: every tested image was classified as labeled." in evaluation_page(make([0, 1], [[1, 0], [0, 1]]))


def test_leakage_and_synthetic_images_are_stamped(make) -> None:
    page = evaluation_page(make(*MIXED, leaked=3, synthetic=True))
    assert "Leaked." in page and "has seen 3 of the 4 tested images" in page
    assert "Synthetic images." in page
    assert page.index("Leaked.") < page.index("Main figures")


def test_what_was_not_computed_is_said_with_its_reason(make) -> None:
    p = [[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.1, 0.9, 0.0]]
    page = evaluation_page(make([0, 1, 1], p, classes=("a", "b", "rare")))
    assert "precision, recall, F1, ROC AUC, PR AUC of rare: no image of class &#39;rare&#39; was tested." in page
    assert "2 classes with images; 1 without images is left out" in page


def test_one_class_only_still_makes_a_page(make) -> None:
    page = evaluation_page(make([0, 0], [[0.9, 0.1], [0.4, 0.6]]))
    assert "Not computed: curves need images of at least two classes." in page


def test_names_from_the_data_are_escaped(make) -> None:
    page = evaluation_page(make(*MIXED, classes=("<script>alert(1)</script>", "b&b")))
    assert "<script>" not in page and "&lt;script&gt;" in page


def test_limitations_follow_from_the_data(make) -> None:
    own, other = make(*MIXED, own_split=True, has_groups=False), make(*MIXED, leaked=1)
    assert any("same data as the training images" in line for line in limitations(own))
    assert any("do not say which images belong to one patient" in line for line in limitations(own))
    assert any("Fewer than 20 images stand behind the figures of: nevus (2), melanoma (2)" in line for line in limitations(own))
    assert any("must not be reported as performance" in line for line in limitations(other))
    assert not any("same data as the training images" in line for line in limitations(other))
    assert any("No confidence intervals" in line for line in limitations(other))
