import cv2
import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isograft.data.preprocess import Preprocess
from isograft.export.preprocessing import preprocessing_graph

SESSIONS: dict[tuple[int, int], onnxruntime.InferenceSession] = {}


def in_graph(preprocess: Preprocess, images: np.ndarray) -> np.ndarray:
    key = (preprocess.image_size, preprocess.working_size)
    if key not in SESSIONS:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        SESSIONS[key] = onnxruntime.InferenceSession(preprocessing_graph(preprocess).SerializeToString(), options)
    return SESSIONS[key].run(None, {"image": images})[0]


def by_opencv(preprocess: Preprocess, image: np.ndarray) -> np.ndarray:
    return preprocess.fit(preprocess.working(image))


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    smooth = cv2.resize(draw.uniform(0, 255, (5, 6, 3)), (width, height), interpolation=cv2.INTER_LINEAR)
    return (smooth + draw.normal(0, 20, (height, width, 3))).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "working", "side"),
    [
        (450, 600, 96, 64),  # a dermoscope: both sides shrink, twice
        (192, 256, 96, 48),  # whole factors, halves and quarters
        (288, 288, 96, 32),  # whole factors of three
        (27, 27, 64, 64),  # a nucleus: enlarged
        (96, 96, 96, 96),  # as it is
        (64, 500, 80, 96),  # a panorama, squashed: one side shrinks, the other grows
        (500, 64, 80, 96),
        (1, 1, 8, 8),
        (1, 9, 8, 12),
        (2, 300, 16, 9),
        (35, 872, 48, 64),  # where size / wanted and 1 / (wanted / size) lie on two sides of a whole number
        (36, 136, 48, 48),
        (1023, 777, 256, 224),
    ],
)
def test_the_graph_shows_the_network_the_pixels_that_opencv_gives(height, width, working, side):
    preprocess = Preprocess(image_size=side, working_size=working)
    image = picture(height, width)
    assert np.array_equal(in_graph(preprocess, image[None])[0], by_opencv(preprocess, image))


@settings(max_examples=60)
@given(st.integers(1, 260), st.integers(1, 260), st.sampled_from([(32, 24), (48, 48), (20, 64)]), st.integers(0, 9))
def test_of_any_size_hardly_a_pixel_differs_and_none_by_more_than_one(height, width, sizes, seed):
    preprocess = Preprocess(image_size=sizes[1], working_size=sizes[0])
    image = picture(height, width, seed)
    apart = np.abs(in_graph(preprocess, image[None])[0].astype(int) - by_opencv(preprocess, image))
    assert apart.max() <= 1 and (apart > 0).mean() < 0.002  # where a mean lies half-way between two grey levels


def test_images_of_one_size_do_not_mix():
    preprocess = Preprocess(image_size=24, working_size=32)
    images = np.stack([picture(60, 80, seed) for seed in range(3)])
    together = in_graph(preprocess, images)
    assert all(np.array_equal(one, by_opencv(preprocess, image)) for one, image in zip(together, images, strict=True))
