from __future__ import annotations

import hashlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isograft.data.hashing import group_hash, perceptual_distance, perceptual_hash, perceptual_hashes, pixel_hash, thumbnail, variants


def smooth(seed: int, height: int = 90, width: int = 120) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def turned(image: np.ndarray) -> list[np.ndarray]:
    return [np.ascontiguousarray(np.rot90(side, k)) for side in (image, image[:, ::-1]) for k in range(4)]


def test_the_pixel_hash_is_the_documented_sha256() -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert pixel_hash(array) == hashlib.sha256(b"uint8 (2, 3)\n" + bytes(range(6))).hexdigest()


def test_the_pixel_hash_sees_shape_dtype_and_every_pixel() -> None:
    array = np.zeros((4, 6), np.uint8)
    other = array.copy()
    other[3, 5] = 1
    hashes = {pixel_hash(a) for a in (array, array.reshape(6, 4), array.view(np.uint16), np.zeros((4, 6, 3), np.uint8), other)}
    assert len(hashes) == 5


def test_the_pixel_hash_does_not_see_memory_layout() -> None:
    image = smooth(0)
    assert pixel_hash(image[::2, ::3]) == pixel_hash(image[::2, ::3].copy())
    sixteen = np.arange(12, dtype=np.uint16).reshape(3, 4)
    assert pixel_hash(sixteen) == pixel_hash(sixteen.astype(">u2"))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**63 - 1))
def test_all_variants_have_the_same_variants(value: int) -> None:
    orbit = variants(np.array([value * 2], np.uint64))[:, 0]
    for member in orbit:
        assert set(variants(np.array([member], np.uint64))[:, 0].tolist()) == set(orbit.tolist())


@pytest.mark.parametrize("seed", range(5))
def test_mirrored_and_turned_copies_look_the_same(seed: int) -> None:
    image = smooth(seed)
    for copy in turned(image):
        assert perceptual_distance(perceptual_hash(image), perceptual_hash(copy)) <= 2


@pytest.mark.parametrize("seed", range(5))
def test_resized_and_recompressed_copies_look_the_same(seed: int) -> None:
    image = smooth(seed, 300, 400)
    small = cv2.resize(image, (160, 120), interpolation=cv2.INTER_AREA)
    coded = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_COLOR)
    for copy in (small, coded, np.clip(image * 0.8 + 20, 0, 255).astype(np.uint8)):
        assert perceptual_distance(perceptual_hash(image), perceptual_hash(copy)) <= 6


def test_different_images_look_different() -> None:
    hashes = [perceptual_hash(smooth(seed)) for seed in range(12)]
    assert min(perceptual_distance(a, b) for place, a in enumerate(hashes) for b in hashes[:place]) >= 8


def test_a_hash_does_not_depend_on_its_batch() -> None:
    thumbnails = np.stack([thumbnail(smooth(seed)) for seed in range(7)])
    assert perceptual_hashes(thumbnails).tolist() == [perceptual_hash(smooth(seed)) for seed in range(7)]
    assert perceptual_hashes(thumbnails[:0]).shape == (0,)


def test_grey_colour_and_sixteen_bits_agree() -> None:
    grey = smooth(3)[..., 0]
    assert perceptual_hash(grey) == perceptual_hash(np.dstack([grey] * 3))
    assert perceptual_distance(perceptual_hash(grey), perceptual_hash(grey.astype(np.uint16) * 257)) <= 2


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 500), (40, 40), (3000, 20, 3)])
def test_an_image_of_one_colour_has_hash_zero(shape: tuple[int, ...]) -> None:
    assert perceptual_hash(np.full(shape, 77, np.uint8)) == 0


def test_a_group_hash_is_stable_and_separates_groups() -> None:
    assert group_hash("patient 1") == hashlib.blake2b(b"patient 1", key=b"isograft.group.v1", digest_size=16).hexdigest()
    assert group_hash("patient 1") != group_hash("patient 2")
