"""The pictures of a report."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from isograft.assess.metrics import roc_curve
from isograft.report.figures import (
    MOST_CURVES,
    Picture,
    _history_panels,
    _history_series,
    confusion_figure,
    curve_figure,
    history_figure,
    thumbnail,
)


def _svg(picture: Picture) -> str:
    head, _, data = picture.source.partition("base64,")
    assert head == "data:image/svg+xml;"
    return base64.b64decode(data).decode()


def _curve(seed: int = 0):
    draw = np.random.default_rng(seed)
    return roc_curve(draw.random(30) < 0.5, draw.random(30))


def test_the_confusion_figure_is_a_well_formed_svg_that_asks_for_nothing_and_tells_its_numbers() -> None:
    picture = confusion_figure([[7, 1], [2, 5]], ["benign", "malignant"])
    svg = _svg(picture)
    assert ET.fromstring(svg).tag.endswith("svg")
    assert not re.search(r"(href|url|src)\s*[=(]\s*['\"]?(https?:)?//", svg) and "<!DOCTYPE" not in svg
    assert picture.alt == "Confusion matrix. of 8 benign, 7 right; of 7 malignant, 5 right."


def test_the_same_figures_give_the_same_bytes() -> None:
    assert confusion_figure([[1, 0], [0, 1]], ["a", "b"]) == confusion_figure([[1, 0], [0, 1]], ["a", "b"])


def test_a_class_without_images_and_class_names_with_signs_are_drawn() -> None:
    picture = confusion_figure([[3, 1, 0], [0, 4, 0], [0, 0, 0]], ["a_$x$", "<b>&", "a name that is far too long for an axis"])
    assert "of 0 a name that is far too long for an axis, 0 right" in picture.alt
    ET.fromstring(_svg(picture))


def test_curves_beyond_the_number_of_colours_are_told_but_not_drawn() -> None:
    picture = curve_figure("roc", {f"class{k}": (_curve(k), 0.5) for k in range(MOST_CURVES + 2)})
    assert f"the {MOST_CURVES} classes with the most images of {MOST_CURVES + 2}" in picture.caption
    assert f"class{MOST_CURVES + 1} area 0.500" in picture.alt


def test_history_series_leave_gaps_out_and_ignore_text() -> None:
    columns = {
        "step": ["0", "10", "20"],
        "phase": ["probe", "probe", "full"],
        "val_f1": ["0.5", "", "0.7"],
        "note": ["x", "y", "z"],
        "lr": [1, 2, None],
    }
    assert _history_series(columns) == {"val_f1": ([0.0, 20.0], [0.5, 0.7]), "lr": ([0.0, 10.0], [1.0, 2.0])}


def test_history_phases_that_take_turns_become_one_series_each() -> None:
    columns = {"step": [1, 1, 2, 2], "phase": ["train", "val", "train", "val"], "loss": [4, 5, 2, 3], "lr": [1, None, 1, None]}
    assert _history_series(columns) == {"loss (train)": ([1, 2], [4, 2]), "loss (val)": ([1, 2], [5, 3]), "lr": ([1, 2], [1, 1])}


def test_history_steps_that_start_again_are_replaced_by_row_numbers() -> None:
    assert _history_series({"step": [0, 10, 0, 10], "loss": [4, 3, 2, 1]}) == {"loss": ([0, 1, 2, 3], [4, 3, 2, 1])}


def test_history_panels_put_losses_and_scores_together() -> None:
    series = {
        name: ([0.0, 1.0], [0.1, 0.2])
        for name in ("lr", "train_loss", "val_loss", "val_macro_f1", "val_accuracy", "lr_head", "effective_rank")
    }
    assert _history_panels(series) == [
        ("loss", ["train_loss", "val_loss"]),
        ("scores", ["val_macro_f1", "val_accuracy"]),
        ("learning rate", ["lr", "lr_head"]),
        ("effective_rank", ["effective_rank"]),
    ]


@pytest.mark.parametrize("columns", [{}, {"step": [1]}, {"loss": []}, {"loss": ["", ""], "phase": ["a", "b"]}, {"loss": [1]}])
def test_a_history_with_nothing_to_draw_gives_no_picture(columns: dict[str, list[object]]) -> None:
    assert history_figure(columns) is None


def test_a_history_is_drawn_with_its_first_and_last_values_told() -> None:
    picture = history_figure({"step": [0, 5], "loss": [2.0, 1.5], "val_acc": [0.25, 0.5], "rate": [9, 8]})
    assert picture is not None
    assert picture.alt == "Training curves: loss from 2 to 1.5; val_acc from 0.25 to 0.5; rate from 9 to 8."


def test_a_thumbnail_keeps_the_aspect_and_the_colours(small_image: np.ndarray) -> None:
    import cv2

    large = cv2.resize(small_image, (640, 480))
    picture = thumbnail(large, "a lesion", side=160)
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(picture.source.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert shown.shape == (120, 160, 3)
    assert np.abs(shown.mean((0, 1)) - large.mean((0, 1))).max() < 2
    assert thumbnail(small_image[:1, :1], "one pixel").source.startswith("data:image/jpeg;base64,")
