import numpy as np
import pytest

from isograft.data.policy import ViewPolicy
from isograft.data.symmetries import IDENTITY, SYMMETRIES, harmless, turned


@pytest.fixture
def image(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)


def test_the_eight_symmetries_are_all_different_and_keep_every_pixel(image: np.ndarray) -> None:
    made = [turned(image, name) for name in SYMMETRIES]
    assert len({one.tobytes() for one in made}) == 8
    assert all(np.array_equal(np.sort(one.reshape(-1, 3), axis=0), np.sort(image.reshape(-1, 3), axis=0)) for one in made)


def test_they_form_a_group(image: np.ndarray) -> None:
    every = {turned(image, name).tobytes() for name in SYMMETRIES}
    assert all(turned(turned(image, one), other).tobytes() in every for one in SYMMETRIES for other in SYMMETRIES)


def test_the_names_say_what_they_do(image: np.ndarray) -> None:
    assert np.array_equal(turned(image, IDENTITY), image)
    assert np.array_equal(turned(image, "mirror"), image[:, ::-1])
    assert np.array_equal(turned(image, "flip"), image[::-1])
    assert np.array_equal(turned(image, "half"), image[::-1, ::-1])
    assert np.array_equal(turned(image, "quarter"), np.rot90(image))


def test_a_stack_is_turned_image_by_image(image: np.ndarray) -> None:
    stack = np.stack([image, 255 - image])
    for name in SYMMETRIES:
        assert np.array_equal(turned(stack, name)[1], turned(255 - image, name))


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({}, (IDENTITY,)),
        ({"rotation": 10.0}, (IDENTITY,)),
        ({"flip_horizontal": 0.5}, (IDENTITY, "mirror")),
        ({"flip_horizontal": 0.5, "flip_vertical": 0.5}, (IDENTITY, "mirror", "flip", "half")),
        ({"rotation": 180.0}, (IDENTITY, "quarter", "half", "three-quarters")),
        ({"rotation": 180.0, "flip_horizontal": 0.5}, SYMMETRIES),
    ],
)
def test_only_what_a_domain_allows_is_done(policy: dict[str, float], expected: tuple[str, ...]) -> None:
    assert tuple(harmless(ViewPolicy(**policy))) == expected
