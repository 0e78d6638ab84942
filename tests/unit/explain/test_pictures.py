"""What a heatmap looks like: colours that grow with the values, in the image's own shape, the same bytes each time."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest

from isograft.explain.heatmap import METHODS, Heatmap
from isograft.explain.pictures import colours, ends, sheet, show, where


def heatmap(method: str, row: int = 5, column: int = 28) -> Heatmap:
    values = np.zeros((32, 32), np.float32)
    values[row - 3 : row + 3, column - 3 : column + 3] = 2
    return Heatmap(values, method, 0, 1.5)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(60, 200, (40, 80, 3), dtype=np.uint8)


def lightness(rgb: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(rgb.astype(np.float32)[None], cv2.COLOR_RGB2LAB)[0, :, 0]


def test_a_larger_value_is_never_darker_and_the_steps_are_even() -> None:
    steps = np.diff(lightness(colours(np.linspace(0, 1, 64, dtype=np.float32), signed=False)))
    assert steps.min() > 0 and steps.max() < 2.5 * steps.min()


def test_of_a_map_with_a_sign_equal_values_are_equally_light_and_zero_is_the_lightest() -> None:
    light = lightness(colours(np.linspace(-1, 1, 65, dtype=np.float32), signed=True))
    assert light.argmax() == 32 and np.abs(light - light[::-1]).max() < 25


@pytest.mark.parametrize("method", METHODS)
def test_the_overlay_has_the_shape_of_the_image_and_colour_where_the_map_is_large(image: np.ndarray, method: str) -> None:
    shown = show(image, heatmap(method))
    assert shown.image.shape == shown.overlay.shape == (160, 320, 3)
    spread = np.ptp(shown.overlay.astype(int), axis=2)
    hot, cold = (slice(20, 30), slice(270, 290)), (slice(120, 150), slice(20, 60))
    assert spread[hot].mean() > 1.3 * spread[cold].mean()
    assert 0 < shown.largest <= 2
    assert ends(shown, METHODS[method].signed)[0] == ("−2" if method == "occlusion" else ends(shown, METHODS[method].signed)[0])


def test_a_sheet_is_a_png_with_the_same_bytes_each_time(image: np.ndarray) -> None:
    map_ = heatmap("grad-cam")
    made = [sheet(show(image, map_), map_, "a $class$: probability 0.5") for _ in range(2)]
    assert made[0] == made[1]
    pixels = cv2.imdecode(np.frombuffer(io.BytesIO(made[0]).getvalue(), np.uint8), cv2.IMREAD_COLOR)
    assert pixels.shape[1] > pixels.shape[0] > 100


def test_the_place_of_the_largest_value_is_told_in_words() -> None:
    assert where(heatmap("grad-cam", 5, 28)) == "at the top right"
    assert where(heatmap("grad-cam", 16, 16)) == "in the centre"
    assert where(heatmap("occlusion", 28, 16)) == "at the bottom centre"
    assert where(Heatmap(np.zeros((8, 8), np.float32), "grad-cam", 0, 0.0)) == ""
    assert where(Heatmap(-np.ones((8, 8), np.float32), "occlusion", 0, 0.0)) == ""


def test_an_empty_map_is_shown_as_nothing(image: np.ndarray) -> None:
    shown = show(image, Heatmap(np.zeros((32, 32), np.float32), "grad-cam", 0, 0.0))
    assert shown.largest == 0
    assert len(np.unique(shown.overlay.reshape(-1, 3) - shown.overlay.reshape(-1, 3).min(1, keepdims=True), axis=0)) < 200
