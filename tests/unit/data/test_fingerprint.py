import numpy as np

from isograft.data.fingerprint import fingerprint


def sample(upright: bool, colour: bool, count: int = 90) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    images = []
    for _ in range(count):
        image = rng.integers(90, 160, size=(40, 48, 3)).astype(float)
        if upright:
            image[:14] += 70  # a bright top, as in an upright photograph
            image[:, :14] -= 50  # and a dark left
        if not colour:
            image[:] = image.mean(axis=2, keepdims=True)
        else:
            image[..., 0] += 40
        images.append(image.clip(0, 255).astype(np.uint8))
    return images


def sides(images: list[np.ndarray]) -> np.ndarray:
    return np.array([min(image.shape[:2]) for image in images], dtype=np.int64)


def test_texture_without_direction_allows_any_rotation_and_mirroring() -> None:
    images = sample(upright=False, colour=True)
    measured = fingerprint(images, sides(images))
    assert measured.any_rotation
    assert measured.any_mirror
    assert not measured.grey


def test_upright_images_are_recognised_as_upright() -> None:
    images = sample(upright=True, colour=True)
    measured = fingerprint(images, sides(images))
    assert not measured.any_rotation
    assert not measured.any_mirror


def test_grey_images_are_recognised_as_grey() -> None:
    images = sample(upright=False, colour=False)
    assert fingerprint(images, sides(images)).grey


def test_too_few_images_are_assumed_to_be_upright() -> None:
    images = sample(upright=False, colour=True, count=10)
    measured = fingerprint(images, sides(images))
    assert not measured.any_rotation
    assert measured.images == 10
    assert measured.short_side == 40
