"""The pictures of a study's report."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ET

import pytest

from isograft.report.figures import MOST_CURVES, Picture
from isograft.report.study_figures import difference_figure, label_curves

NAN = float("nan")


def _tree(picture: Picture) -> ET.Element:
    head, _, data = picture.source.partition("base64,")
    assert head == "data:image/svg+xml;"
    return ET.fromstring(base64.b64decode(data))


def test_curves_are_drawn_with_their_bands_and_told() -> None:
    arms = {"scratch": [(0.5, 0.4, 0.6), (0.7, 0.65, 0.75)], "pool": [(0.6, 0.5, 0.7), (0.8, None, None)]}
    picture = label_curves([10, 25], ["10", "25"], arms, "macro F1")
    assert _tree(picture).tag.endswith("svg")
    assert picture.alt == (
        "macro F1 over labels per class: scratch 0.500 (0.400 to 0.600) with 10, 0.700 (0.650 to 0.750) with 25; "
        "pool 0.600 (0.500 to 0.700) with 10, 0.800 with 25."
    )
    assert picture == label_curves([10, 25], ["10", "25"], arms, "macro F1")


def test_arms_beyond_the_number_of_colours_are_told_but_not_drawn() -> None:
    picture = label_curves([10], ["10"], {f"arm{k}": [(0.5, None, None)] for k in range(MOST_CURVES + 1)}, "accuracy")
    assert f"the first {MOST_CURVES} of {MOST_CURVES + 1} arms" in picture.caption and f"arm{MOST_CURVES} 0.500" in picture.alt


def test_differences_are_told_with_their_sign_and_missing_ones_as_missing() -> None:
    rows = [("pool − scratch", (0.05, 0.01, 0.09), True), ("with 10", (-0.02, None, None), False), ("with 25", (NAN, None, None), False)]
    picture = difference_figure(rows, "macro F1")
    _tree(picture)
    assert picture.alt == "Paired differences in macro F1: pool − scratch +0.050 (+0.010 to +0.090); with 10 -0.020; with 25 not there."


@pytest.mark.parametrize("name", ["a_$x$", "<b>&", "a name that is far too long for the side of a picture, and then some more"])
def test_any_name_of_an_arm_can_be_drawn(name: str) -> None:
    _tree(difference_figure([(name, (0.1, 0.0, 0.2), True)], "accuracy"))
    _tree(label_curves([10, 20], ["10", "20"], {name: [(0.1, 0.0, 0.2), (NAN, None, None)]}, "accuracy"))
