"""The page about an evaluation: nothing from outside, every picture described, every caveat in words."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.unit.report.made_up import made_up

from isograft.assess.metrics import score
from isograft.report.answer import headline
from isograft.report.comparisons import against
from isograft.report.decisions import abstention
from isograft.report.evaluation import Evaluated, evaluation_page
from isograft.report.html import p_value
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


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluated, str]:
    """An evaluation with every section, and its page."""
    tested = made_up(tmp_path_factory.mktemp("full"), n=160, resamples=60)
    return tested, re.sub(r"\s+", " ", unescape(evaluation_page(tested)).replace("\u00a0", " "))


def test_the_answer_stands_first_with_its_interval_and_what_guessing_would_give(full) -> None:
    tested, page = full
    m, interval = tested.metrics, tested.metrics["intervals"]["figures"]["accuracy"]
    accuracy, low, high = (f"{100 * value:.1f} %" for value in (m["accuracy"], interval["low"], interval["high"]))
    assert f"Over all images it was right in {accuracy} (95 % interval {low} to {high})" in page
    assert page.index("The answer") < page.index("Over all images") < page.index("Main figures")
    assert "always answering ‘nv’, the most frequent class here" in page


def test_figures_of_classes_stand_with_their_intervals(full) -> None:
    tested, page = full
    recall, between = tested.metrics["per_class"]["nv"]["recall"], tested.metrics["intervals"]["figures"]["per_class.nv.recall"]
    assert f'<td>{recall:.3f}<span class="interval">{between["low"]:.3f} to {between["high"]:.3f}</span></td>' in page


def test_every_section_of_a_full_evaluation_is_told(full) -> None:
    tested, page = full
    point = next(one for one in tested.metrics["operating_points"] if one["by_hand"])
    for words in (
        "corrected by a temperature of 2.00",
        "before calibration",
        f"‘screening’ was chosen for a sensitivity of at least 95.0 % for mel: the test gives {100 * point['test']['sensitivity']:.1f} %",
        f"<td>{point['at_prevalence']['ppv']:.3f}</td>",
        "does more good than treating all or none",
        "a set of classes that holds the true one in 90.0 % of images",
        "It gave no single answer to 80 of 160 images",
        "look unlike those the model was trained on",
        "Compared with imagenet-model",
        "adjusted together by Holm's method",
        "By sex",
        "By age",
        "patient_id: it names images, patients or files",
        "Heatmap: the model looked at the middle.",
        "3 pictures are there under different labels",
        "topics that TRIPOD+AI and CLAIM ask",
    ):
        assert words in page, words


def test_every_missing_section_is_one_honest_sentence(make) -> None:
    page = unescape(evaluation_page(make(*MIXED)))
    for words in (
        "This model carries no calibration, because it was made by a version of isograft that fitted none.",
        "This model carries no named threshold, because",
        "This model gives no prediction sets, because",
        "Whether images are unlike those of the training cannot be told, because",
        "No other model was given.",
        "No subgroups: the data have no further column",
        "No audit was made with this test.",
    ):
        assert words in page, words


def test_limitations_follow_from_the_sections_too(full, make) -> None:
    told, bare = " ".join(limitations(full[0])), " ".join(limitations(make(*MIXED)))
    assert "No confidence intervals" not in told and "Some figures have no interval" in told
    assert "Calibration and thresholds were fitted on other data" in told and "carries no calibration" in bare
    assert "2 of the images repeat the pixels of another" in told and "whether the model serves some people worse was not examined" in bare
    assert "Some subgroups are too small" in told and "not audited" in bare and "not audited" not in told


def test_two_classes_are_told_as_found_and_spared(tmp_path: Path) -> None:
    tested = made_up(tmp_path, ("benign", "melanoma"), 80, resamples=40, skill=1.5)
    rare = min(tested.classes, key=lambda name: tested.metrics["per_class"][name]["images"])
    (first, _) = headline(tested)
    one = tested.metrics["per_class"][rare]
    found = f"It recognised {100 * one['recall']:.1f} % of the {one['images']} images of ‘{rare}’ (95 % interval"
    assert first.replace("\u00a0", " ").startswith(found)
    assert "ROC AUC" in first


def test_a_comparison_whose_interval_holds_zero_names_no_winner_and_a_leaky_other_model_is_stamped(full) -> None:
    tested, _ = full
    one = {"a": 0.7, "b": 0.69, "difference": 0.01, "low": -0.02, "high": 0.04, "method": "BCa", "p": 0.0, "p_holm": 0.2, "test": "McNemar"}
    told = {"model": {"name": "other"}, "figures": {"balanced_accuracy": one}, "family": "f", "leakage": {"images": 3}}
    page = against(replace(tested, metrics=tested.metrics | {"against": told}))
    assert any("does not tell which is better" in line for line in page["text"]) and page["leaked"] == 3
    better = told | {"figures": {"balanced_accuracy": one | {"low": 0.005}}}
    assert "skin-model is better" in " ".join(against(replace(tested, metrics=tested.metrics | {"against": better}))["text"])
    assert p_value(0.0) == "<0.001" and p_value(None) == "–"


def test_a_threshold_that_could_not_be_chosen_says_why(make) -> None:
    point = {"name": "screening", "class": "nevus", "rule": "sensitivity >= 0.9", "threshold": None, "by_hand": True, "validation": {}}
    point |= {"test": None, "intervals": {}, "reason": "no image to choose it on was of class 'nevus'", "prevalence": None}
    tested = make(*MIXED)
    page = evaluation_page(replace(tested, metrics=tested.metrics | {"operating_points": [point]}))
    assert "not computed: no image to choose it on was of class &#39;nevus&#39;" in page


def test_a_broken_promise_of_sets_is_called_so(full) -> None:
    tested, _ = full
    sets = tested.metrics["conformal"]
    low = {name: one | {"covered": 0.7, "interval": {"low": 0.65, "high": 0.75}} for name, one in sets["methods"].items()}
    broken = abstention(replace(tested, metrics=tested.metrics | {"conformal": sets | {"methods": low}}))
    assert "few images to fit the sets on, or other images than those" in broken["text"][0]
    assert len(broken["sets"]) == 3


def test_forty_classes_fold_what_is_long_away(tmp_path: Path) -> None:
    tested = made_up(tmp_path, tuple(f"class {k}" for k in range(40)), 240, resamples=20, absent=2, heatmaps=None)
    page = evaluation_page(tested)
    assert "the 6 most frequent of 38 classes are drawn" in page and "38 of the model&#39;s 40 classes" in page
    assert page.count("<img") < 60
