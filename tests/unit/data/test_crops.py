"""Copies with their edges cut off are found in any orientation, and images that are only alike are not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from tests.unit.data.test_look import encoded, lesion, turned

from isograft.data.crops import CONFIRMED, SIDE, correlations, cropped_copies


def small(*images: np.ndarray) -> np.ndarray:
    return np.stack([cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (SIDE, SIDE), interpolation=cv2.INTER_AREA) for image in images])


def cut(image: np.ndarray, share: float, seed: int) -> np.ndarray:
    height, width = image.shape[:2]
    draw = np.random.default_rng(seed)
    top, left = (int(draw.integers(0, round(share * side) + 1)) for side in (height, width))
    return image[top : top + height - round(share * height), left : left + width - round(share * width)]


MANY = [lesion(seed) for seed in range(60)]


@pytest.mark.parametrize("share", [0.0, 0.03, 0.05, 0.08])
def test_copies_cut_turned_shrunk_and_recompressed_are_found_in_both_directions(share: float) -> None:
    copies = []
    for seed, image in enumerate(MANY[:16]):
        part = np.ascontiguousarray(turned(cut(image, share, seed), seed % 8))
        copies.append(encoded(cv2.resize(part, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA), 60))
    rows, columns, correlation = cropped_copies(small(*MANY), small(*copies))
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == {(number, number) for number in range(16)}
    assert correlation.min() >= CONFIRMED
    back = cropped_copies(small(*copies), small(*MANY))
    assert set(zip(back[1].tolist(), back[0].tolist(), strict=True)) == {(number, number) for number in range(16)}


def test_images_that_are_only_alike_are_no_copies() -> None:
    rows, _, _ = cropped_copies(small(*MANY))
    assert len(rows) == 0


def test_within_one_set_each_pair_comes_once_the_smaller_row_first() -> None:
    rows, columns, _ = cropped_copies(small(MANY[0], MANY[1], cut(MANY[0], 0.06, 1), MANY[0]))
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 2), (0, 3), (2, 3)]


def test_the_correlation_of_a_picture_with_itself_is_one_and_with_another_zero() -> None:
    values = correlations(small(MANY[0], MANY[1]), small(MANY[0], MANY[2]))
    assert values[0] == pytest.approx(1, abs=1e-4) and values[1] < CONFIRMED


def test_the_correlation_of_whole_copies_is_that_of_their_weighted_spectra() -> None:
    """Against scipy: the cosine transforms of the two pictures, each frequency by its radius, as two vectors."""
    from scipy.fft import dctn

    image = MANY[3]
    one, other = small(image, encoded(image, 70))
    radius = np.hypot(*np.indices((28, 28)))
    weights = np.where((radius > 0) & (radius < 28), radius, 0)

    def vector(picture: np.ndarray) -> np.ndarray:
        resampled = cv2.resize(picture.astype(np.float64), (56, 56), interpolation=cv2.INTER_LINEAR)
        return (dctn(resampled, type=2)[:28, :28] * weights).ravel()

    expected = float(vector(one) @ vector(other) / np.linalg.norm(vector(one)) / np.linalg.norm(vector(other)))
    value = float(correlations(one[None], other[None])[0])
    assert expected - 1e-3 <= value <= 1.0  # aligning can only add to it


def test_pictures_of_one_colour_and_empty_sets_give_nothing() -> None:
    blank = np.full((3, SIDE, SIDE), 90, np.uint8)
    for one, other in ((blank, None), (blank, small(*MANY[:2])), (np.empty((0, SIDE, SIDE), np.uint8), blank), (blank[:0], None)):
        assert len(cropped_copies(one, other)[0]) == 0
