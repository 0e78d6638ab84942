"""Sampling of views and their two renderers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isograft.data.augment import NO_SOLARIZE, Views, sample_views
from isograft.data.policy import POLICIES, ViewPolicy
from isograft.data.preprocess import Preprocess
from isograft.data.render import padded, render_opencv
from isograft.data.render_torch import Packed, render_torch

EVERYTHING = POLICIES["histology"].model_copy(update={"grey": 0.2, "blur": 0.5, "solarize": 0.5, "hue": 0.1})
DOMAINS = sorted(POLICIES)


def sampled(policy: ViewPolicy, count: int, shape: tuple[int, int], size: int, view: int = 0) -> Views:
    heights, widths = np.full(count, shape[0]), np.full(count, shape[1])
    return sample_views(policy, 0, 0, np.arange(count, dtype=np.uint64), view, heights, widths, size)


def opencv(images: list[np.ndarray], views: Views, size: int) -> np.ndarray:
    out = np.zeros((len(views), size, size, 3), np.uint8)
    render_opencv(images, views, size, out, 0, len(views))
    return out


def on_torch(images: list[np.ndarray], views: Views, size: int) -> np.ndarray:
    return render_torch(Packed.of(images), views, size).numpy()


RENDERERS: list[Callable[[list[np.ndarray], Views, int], np.ndarray]] = [opencv, on_torch]
both_renderers = pytest.mark.parametrize("render", RENDERERS)


def distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.abs(one.astype(int) - other.astype(int))


@both_renderers
@pytest.mark.parametrize("domain", DOMAINS)
def test_a_policy_of_strength_zero_is_the_identity(render: Callable[..., np.ndarray], domain: str, small_image: np.ndarray) -> None:
    square = small_image[:, :48]
    views = sampled(POLICIES[domain].scaled(0), 3, (48, 48), 48)
    assert np.array_equal(views.affine, np.broadcast_to(np.eye(2, 3, dtype=np.float32), (3, 2, 3)))
    assert np.array_equal(views.colour, np.broadcast_to(np.eye(3, 4, dtype=np.float32), (3, 3, 4)))
    assert np.array_equal(render([square] * 3, views, 48), np.stack([square] * 3))


def test_without_variation_a_view_is_what_the_network_sees_at_inference(small_image: np.ndarray) -> None:
    enlarged = Preprocess(image_size=96, working_size=48).fit(small_image)
    assert distance(opencv([small_image], sampled(ViewPolicy(), 1, (48, 64), 96), 96)[0], enlarged).max() <= 1


@both_renderers
@pytest.mark.parametrize("axis", [0, 1])
def test_a_flip_mirrors_and_flipping_twice_is_the_identity(render: Callable[..., np.ndarray], axis: int, small_image: np.ndarray) -> None:
    square = small_image[:, :48]
    policy = ViewPolicy(flip_vertical=1) if axis == 0 else ViewPolicy(flip_horizontal=1)
    views = sampled(policy, 1, (48, 48), 48)
    once = render([square], views, 48)[0]
    assert np.array_equal(once, np.flip(square, axis))
    assert np.array_equal(render([once], views, 48)[0], square)


@both_renderers
def test_a_quarter_turn_turns(render: Callable[..., np.ndarray], small_image: np.ndarray) -> None:
    square = small_image[:, :48]
    views = sampled(ViewPolicy(), 1, (48, 48), 48)
    quarter = replace(views, affine=np.array([[[0, -1, 47], [1, 0, 0]]], np.float32))
    assert np.array_equal(render([square], quarter, 48)[0], np.rot90(square))


@both_renderers
@pytest.mark.parametrize("domain", DOMAINS)
def test_no_blank_corner_shows_at_any_rotation(render: Callable[..., np.ndarray], domain: str) -> None:
    skin = np.full((40, 60, 3), (180, 120, 100), np.uint8)
    policy = POLICIES[domain].model_copy(update={"crop": (1.0, 1.0), "brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "stain": 0})
    assert (render([skin] * 20, sampled(policy, 20, (40, 60), 32), 32) == skin[0, 0]).all()


@pytest.mark.parametrize("domain", DOMAINS)
def test_both_renderers_agree_to_rounding(domain: str, small_image: np.ndarray) -> None:
    policy = EVERYTHING if domain == "histology" else POLICIES[domain]
    images = [np.roll(small_image, shift, 1) for shift in range(12)]
    views = sampled(policy, 12, (48, 64), 40)
    smooth = replace(views, solarize=np.full_like(views.solarize, NO_SOLARIZE))
    difference = distance(opencv(images, smooth, 40), on_torch(images, smooth, 40))
    assert (difference <= 2).mean() > 0.999
    assert difference.max() <= 6


def test_both_renderers_solarize_alike(small_image: np.ndarray) -> None:
    views = sampled(POLICIES["dermoscopy"].model_copy(update={"solarize": 1.0}), 8, (48, 64), 40)
    one, other = opencv([small_image] * 8, views, 40), on_torch([small_image] * 8, views, 40)
    assert (distance(one, other) <= 2).mean() > 0.97  # a pixel that sits on the threshold may fall on either side
    assert (one.astype(int) <= np.ceil(views.solarize * 255)[:, None, None, None]).all()


@pytest.mark.parametrize("size", [7, 12])
def test_a_much_smaller_view_averages_instead_of_skipping(size: int) -> None:
    checkerboard = np.dstack([(np.indices((48, 48)).sum(0) % 2 * 200).astype(np.uint8)] * 3)
    views = sampled(ViewPolicy(), 1, (48, 48), size)
    for render in RENDERERS:
        assert distance(render([checkerboard], views, size), np.full(1, 100)).max() <= 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 50)])
def test_tiny_images_give_views_of_full_size(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 77, np.uint8)
    for render in RENDERERS:
        views = sampled(ViewPolicy(rotation=180, crop=(0.3, 1)), 4, shape, 16)
        assert (render([image] * 4, views, 16) == 77).all()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=6), st.integers(0, 99), st.sampled_from([5, 16]))
def test_images_of_unequal_size_in_one_buffer_are_rendered_as_each_by_itself(shapes: list[tuple[int, int]], seed: int, size: int) -> None:
    draw = np.random.default_rng(seed)
    images = [draw.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    heights, widths = np.array(shapes).T
    views = sample_views(EVERYTHING, seed, 0, np.arange(len(images), dtype=np.uint64), 0, heights, widths, size)
    together = on_torch(images, views, size)
    alone = np.concatenate([on_torch([image], views.part(row, row + 1), size) for row, image in enumerate(images)])
    assert (together == alone).mean() > 0.999  # one kernel for all blurs may round another way


@pytest.mark.parametrize("size", [9, 40])
def test_blurs_of_different_reach_agree_with_opencv(size: int, small_image: np.ndarray) -> None:
    views = sampled(ViewPolicy(), 6, (48, 64), size)
    blurred = replace(views, blur=np.array([0, 0.3, 1.1, 0, 2.4, 3.9], np.float32))
    difference = distance(opencv([small_image] * 6, blurred, size), on_torch([small_image] * 6, blurred, size))
    assert (difference <= 1).mean() > 0.999


def test_an_image_of_another_shape_than_announced_is_refused(small_image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="was announced as"):
        Packed.empty(np.array([[48, 63]])).fill(0, [small_image])


@pytest.mark.real
@pytest.mark.parametrize(("domain", "folder"), [("dermoscopy", "skin/ham10000/images"), ("histology", "histology"), ("general", "foot")])
def test_both_renderers_agree_on_real_images(real_data: Path, domain: str, folder: str) -> None:
    files = sorted(path for path in (real_data / folder).rglob("*") if path.suffix in {".jpg", ".png"})[::97][:24]
    images = [cv2.resize(cv2.imread(str(path)), (98, 74), interpolation=cv2.INTER_AREA) for path in files]
    views = sampled(POLICIES[domain], len(images), (74, 98), 64)
    difference = distance(opencv(images, views, 64), on_torch(images, views, 64))
    assert len(images) > 10
    assert (difference <= 2).mean() > 0.999


@settings(max_examples=25, deadline=None)
@given(
    cuts=st.sets(st.integers(1, 12), max_size=3),
    view=st.integers(0, 300),
    seed=st.integers(0, 2**63),
    shape=st.tuples(st.integers(8, 400), st.integers(8, 400)),
)
def test_a_views_numbers_do_not_depend_on_the_batch(cuts: set[int], view: int, seed: int, shape: tuple[int, int]) -> None:
    ids = np.arange(13, dtype=np.uint64) ** np.uint64(9)
    heights, widths = np.full(13, shape[0]), np.full(13, shape[1])
    whole = sample_views(EVERYTHING, seed, 3, ids, view, heights, widths, 64)
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), 13], strict=True):
        rows = slice(start, stop)
        part = sample_views(EVERYTHING, seed, 3, ids[rows], np.full(stop - start, view), heights[rows], widths[rows], 64)
        for name in ("affine", "colour", "blur", "solarize"):
            assert np.array_equal(getattr(part, name), getattr(whole, name)[rows]), name


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**63), height=st.integers(20, 200), width=st.integers(20, 200))
def test_an_upright_crop_lies_inside_the_image(seed: int, height: int, width: int) -> None:
    policy = POLICIES["dermoscopy"].model_copy(update={"rotation": 0})
    views = sample_views(policy, seed, 0, np.arange(20, dtype=np.uint64), 0, np.full(20, height), np.full(20, width), 32)
    corners = np.array([[-0.5, -0.5, 1], [31.5, -0.5, 1], [-0.5, 31.5, 1], [31.5, 31.5, 1]])
    inside = corners @ views.affine.transpose(0, 2, 1) + 0.5
    assert inside.min() > -1e-3
    assert (inside <= np.array([width, height]) + 1e-3).all()
    area = np.abs(np.linalg.det(views.affine[:, :, :2])) * 32**2 / (height * width)
    assert (area > 0.3 * 3 / 4 - 1e-3).all()


def test_hue_and_saturation_keep_the_luma_and_grey_stays_grey() -> None:
    views = sampled(ViewPolicy(hue=0.5, saturation=1.0), 50, (32, 32), 32)
    matrix = views.colour[:, :, :3]
    assert np.allclose(matrix.transpose(0, 2, 1) @ [0.299, 0.587, 0.114], [0.299, 0.587, 0.114], atol=1e-5)
    assert np.allclose(matrix.sum(axis=2), 1, atol=1e-5)


def test_grey_removes_all_colour(small_image: np.ndarray) -> None:
    grey = opencv([small_image], sampled(ViewPolicy(grey=1.0), 1, (48, 64), 48), 48)[0]
    assert distance(grey, grey[..., :1]).max() <= 1


def test_stain_mixing_keeps_white_white() -> None:
    views = sampled(ViewPolicy(stain=0.3), 50, (32, 32), 32)
    assert np.allclose(views.colour.sum(axis=2), 1, atol=1e-6)
    assert np.abs(views.colour[:, :, :3] - np.eye(3)).max() > 0.2


def test_the_views_of_an_image_differ_and_so_do_images_and_epochs() -> None:
    affines = [sampled(POLICIES["dermoscopy"], 4, (40, 40), 32, view=view).affine for view in range(3)]
    assert len(np.unique(np.concatenate(affines).reshape(12, -1), axis=0)) == 12


def test_three_and_four_channel_images_give_the_same_bytes(small_image: np.ndarray) -> None:
    views = sampled(EVERYTHING, 6, (48, 64), 20)
    assert np.array_equal(opencv([small_image] * 6, views, 20), opencv([padded(small_image)] * 6, views, 20))


@pytest.mark.parametrize("threads", [2, 4])
def test_threads_give_the_same_bytes_as_one(threads: int, small_image: np.ndarray) -> None:
    images = [np.roll(small_image, shift, 0) for shift in range(24)]
    views, shared = sampled(EVERYTHING, 24, (48, 64), 40), np.zeros((24, 40, 40, 3), np.uint8)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda start: render_opencv(images, views, 40, shared, start, start + 3), range(0, 24, 3)))
    assert np.array_equal(shared, opencv(images, views, 40))


def test_an_output_of_another_shape_is_refused(small_image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="out is"):
        render_opencv([small_image], sampled(ViewPolicy(), 1, (48, 64), 32), 32, np.zeros((1, 32, 31, 3), np.uint8), 0, 1)


@pytest.mark.parametrize("domain", DOMAINS)
def test_strength_one_is_the_policy_itself(domain: str) -> None:
    assert POLICIES[domain].scaled(1.0) == POLICIES[domain]


def test_a_radiograph_is_never_mirrored_nor_coloured() -> None:
    views = sampled(POLICIES["radiograph"], 200, (64, 64), 32)
    assert (np.linalg.det(views.affine[:, :, :2]) > 0).all()
    assert np.allclose(views.colour[:, :, :3], np.eye(3) * views.colour[:, :1, :1], atol=1e-6)
