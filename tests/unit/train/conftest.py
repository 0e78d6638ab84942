from pathlib import Path

import cv2
import numpy as np
import pytest

import isograft


def draw(kind: int, seed: int) -> np.ndarray:
    """A 40x48 image: class 0 has a round spot, class 1 stripes; brightness and place vary."""
    rng = np.random.default_rng(1000 * kind + seed)
    image = rng.normal(150, 12, size=(40, 48, 3)) + rng.normal(0, 15, size=3)
    if kind == 0:
        cv2.circle(image, (int(rng.integers(14, 34)), int(rng.integers(12, 28))), 9, (90, 60, 60), -1)
    else:
        image[:, int(rng.integers(0, 6)) :: 8] -= 60
    return image.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class-per-folder tree, 24 images of either class."""
    root = tmp_path_factory.mktemp("tiny")
    for kind, name in enumerate(("spot", "stripes")):
        (root / name).mkdir()
        for seed in range(24):
            cv2.imwrite(str(root / name / f"{seed}.png"), draw(kind, seed))
    return root


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def backbone(tiny: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained test_resnet."""
    out = tmp_path_factory.mktemp("models") / "backbone"
    isograft.pretrain(tiny, out=out, backbone="test_resnet", image_size=32, epochs=2, batch_size=16, cache_dir=cache, threads=1)
    return out
