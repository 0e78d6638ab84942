import numpy as np

from isograft.data.fingerprint import fingerprint
from isograft.plan import Plan
from isograft.train.views import plan_views


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
    assert (measured.rotation_accuracy, measured.mirror_accuracy) == (None, None)
    assert not measured.any_rotation
    assert not measured.any_mirror
    assert measured.images == 10
    assert measured.short_side == 40


def test_thirty_images_are_enough_to_measure() -> None:
    images = sample(upright=False, colour=True, count=30)
    measured = fingerprint(images, sides(images))
    assert measured.rotation_accuracy is not None
    assert measured.mirror_accuracy is not None


def reasons(images: list[np.ndarray]) -> dict[str, tuple[object, str]]:
    plan = Plan()
    plan_views(plan, "auto", fingerprint(images, sides(images)))
    return {decision.name: (decision.value, decision.reason) for decision in plan}


def test_a_plan_does_not_claim_a_measurement_of_too_few_images() -> None:
    few = reasons(sample(upright=False, colour=True, count=29))
    assert few["rotation"] == (10.0, "too few images to measure (29)")
    assert few["mirror"] == (False, "too few images to measure (29)")


def test_a_plan_gives_the_measured_accuracy_as_its_reason() -> None:
    enough = reasons(sample(upright=True, colour=True))
    assert enough["rotation"][1].startswith("a linear probe tells four turns apart with accuracy ")
    assert enough["mirror"][1].endswith("(chance 0.50)")
