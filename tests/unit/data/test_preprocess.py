"""The one preprocessing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isograft.data.preprocess import Preprocess

SIZES = st.integers(1, 300)


@settings(max_examples=50, deadline=None)
@given(height=SIZES, width=SIZES, size=st.integers(1, 80))
def test_working_keeps_the_short_side_and_bounds_the_long_one(height: int, width: int, size: int) -> None:
    preprocess = Preprocess(image_size=size, working_size=size)
    working = preprocess.working(np.zeros((height, width, 3), np.uint8))
    assert working.shape == (*preprocess.working_shape(height, width), 3)
    assert min(working.shape[:2]) == size
    assert max(working.shape[:2]) == min(2 * size, round(max(height, width) * size / min(height, width)))


def test_working_again_changes_nothing(small_image: np.ndarray) -> None:
    preprocess = Preprocess(image_size=16, working_size=20)
    once = preprocess.working(small_image)
    assert preprocess.working(once) is once


def test_fit_shows_the_whole_field_of_view() -> None:
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, :10], image[:, 70:] = (255, 0, 0), (0, 0, 255)
    fitted = Preprocess(image_size=16, working_size=40).fit(image)
    assert fitted.shape == (16, 16, 3)
    assert fitted[:, 0].tolist() == [[255, 0, 0]] * 16
    assert fitted[:, -1].tolist() == [[0, 0, 255]] * 16


def test_shrinking_averages_areas() -> None:
    checkerboard = (np.indices((64, 64)).sum(0) % 2 * 200).astype(np.uint8)
    fitted = Preprocess(image_size=16, working_size=64).fit(np.dstack([checkerboard] * 3))
    assert np.abs(fitted.astype(int) - 100).max() <= 1


def test_normalise_is_the_formula_and_leaves_the_pixels_alone(rng: np.random.Generator) -> None:
    preprocess = Preprocess(image_size=8, working_size=8)
    pixels = torch.from_numpy(rng.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8))
    before = pixels.clone()
    result = preprocess.normalise(pixels)
    wanted = (pixels.double() / 255 - torch.tensor(preprocess.mean)) / torch.tensor(preprocess.std)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(result, wanted.permute(0, 3, 1, 2).float(), rtol=1e-5, atol=1e-6)
    assert torch.equal(pixels, before)


def test_an_images_numbers_do_not_depend_on_its_neighbours(rng: np.random.Generator) -> None:
    preprocess = Preprocess(image_size=9, working_size=9)
    pixels = torch.from_numpy(rng.integers(0, 256, (7, 9, 9, 3), dtype=np.uint8))
    together = preprocess.normalise(pixels)
    alone = torch.cat([preprocess.normalise(pixels[row : row + 1]) for row in range(7)])
    assert torch.equal(together, alone)


def test_unknown_or_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="image_size"):
        Preprocess(image_size=0, working_size=8)
    with pytest.raises(ValueError, match="crop"):
        Preprocess(image_size=8, working_size=8, crop=0.5)  # type: ignore[call-arg]


def test_it_travels_through_json() -> None:
    preprocess = Preprocess(image_size=64, working_size=74, mean=(0.1, 0.2, 0.3))
    assert Preprocess.model_validate_json(preprocess.model_dump_json()) == preprocess
