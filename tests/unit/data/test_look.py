"""The look is the same for all eight orientations, survives what copying does, and tells alike images apart."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isograft.data.hashing import thumbnail
from isograft.data.look import SAME_LOOK, look_distance, looks, words


def lesion(seed: int, side: int = 240) -> np.ndarray:
    """A dark blob on plain skin: all of them look alike."""
    draw = np.random.default_rng(seed)
    skin = np.full((side, side, 3), (222, 178, 160), np.float32)
    blob = np.zeros((side, side), np.float32)
    for _ in range(6):
        centre = (side / 2 + draw.normal(0, side / 16, 2)).astype(int)
        cv2.ellipse(blob, centre.tolist(), draw.integers(side // 10, side // 5, 2).tolist(), float(draw.uniform(0, 180)), 0, 360, 1.0, -1)
    grain = cv2.resize(draw.normal(0, 12, (side // 8, side // 8)).astype(np.float32), (side, side))
    shade = cv2.GaussianBlur(blob, (0, 0), side / 40)[..., None]
    return np.clip(skin * (1 - 0.6 * shade) + grain[..., None], 0, 255).astype(np.uint8)


def look(*images: np.ndarray) -> np.ndarray:
    return words([one.tobytes().hex() for one in looks(np.stack([thumbnail(np.ascontiguousarray(image)) for image in images]))])


def encoded(image: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def turned(image: np.ndarray, orientation: int) -> np.ndarray:
    image = np.rot90(image, orientation % 4)
    return image[:, ::-1] if orientation > 3 else image


@given(st.integers(0, 7), st.integers(0, 50))
def test_mirroring_and_turning_a_thumbnail_changes_nothing(orientation: int, seed: int) -> None:
    small = np.random.default_rng(seed).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    other = np.ascontiguousarray(turned(small[0], orientation))[None]
    one, two = (words([looks(image)[0].tobytes().hex()]) for image in (small, other))
    assert look_distance(one, two).tolist() == [0]


@pytest.mark.parametrize("orientation", range(8))
def test_a_turned_shrunk_brightened_and_recompressed_copy_keeps_its_look(orientation: int) -> None:
    image = lesion(1)
    copy = encoded(cv2.resize(np.ascontiguousarray(turned(image, orientation)), None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA), 50)
    brighter = np.clip(copy.astype(np.float32) * 1.1 + 5, 0, 255).astype(np.uint8)
    assert look_distance(look(image), look(brighter))[0] <= SAME_LOOK


def test_images_that_are_only_alike_have_other_looks() -> None:
    many = look(*[lesion(seed) for seed in range(40)])
    ones, others = np.triu_indices(40, 1)
    assert look_distance(many[ones], many[others]).min() > SAME_LOOK


def test_the_distance_is_that_of_the_best_of_the_eight_looks_of_turned_images() -> None:
    """Against the direct way: turn the image, take its look, count differing bits."""
    one, other = (np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8) for seed in (1, 2))
    bits = np.unpackbits(looks(np.stack([np.ascontiguousarray(turned(one, orientation)) for orientation in range(8)])), axis=1)
    direct = (bits != np.unpackbits(looks(other[None]), axis=1)).sum(axis=1).min()
    assert look_distance(look(one), look(other)).tolist() == [direct]


def test_the_bits_never_change() -> None:
    """Manifests and models keep them for years."""
    small = (np.arange(32 * 32 * 3).reshape(1, 32, 32, 3) * 7 % 251).astype(np.uint8)
    assert looks(small)[0].tobytes().hex() == "1fe352bfb7471016a9ade033571448dda6ea8a3ab8645a1a3b81652f346d0fa6"


def test_no_image_has_no_look() -> None:
    assert looks(np.empty((0, 32, 32, 3), np.uint8)).shape == (0, 32) and words([]).shape == (0, 4)
