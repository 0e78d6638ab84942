"""Fixtures shared by all tests: the real images beside the checkout, and small images made on the spot."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import settings

# The machines that run the tests are shared: how long an example took says nothing.
settings.register_profile("isograft", deadline=None)
settings.load_profile("isograft")

REPOSITORY = Path(__file__).resolve().parents[1]
REAL_DATA = REPOSITORY.parent / "shared" / "data"


@pytest.fixture(scope="session")
def tool() -> Iterator[Callable[[str], object]]:
    """A function that imports a script of tools/ by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(REPOSITORY / "tools"))
        yield importlib.import_module


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real medical images, or a skip: they are not part of the project."""
    if not (REAL_DATA / "README.md").is_file():
        pytest.skip(f"the real images are not at ../shared/data beside the checkout ({REPOSITORY.name})")
    return REAL_DATA


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed."""
    return np.random.default_rng(0)


@pytest.fixture
def small_image(rng: np.random.Generator) -> np.ndarray:
    """A smooth colour image, uint8 (48, 64, 3) RGB, without symmetry."""
    coarse = rng.integers(30, 226, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (64, 48), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def write_image() -> Callable[[Path, np.ndarray], Path]:
    """A function that writes an RGB or grey array to a path (format by suffix) and returns the path."""

    def write(path: Path, image: np.ndarray) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        stored = image[..., ::-1] if image.ndim == 3 else image
        assert cv2.imwrite(str(path), np.ascontiguousarray(stored))
        return path

    return write


@pytest.fixture
def image_tree(tmp_path: Path, write_image: Callable[[Path, np.ndarray], Path]) -> Path:
    """A class-per-folder tree of 2 classes (`dark`, `light`) with 6 distinct 40x32 PNG images each."""
    root = tmp_path / "tree"
    for place, (name, low) in enumerate((("dark", 20), ("light", 150))):
        for index in range(6):
            draw = np.random.default_rng(100 * place + index)
            coarse = draw.integers(low, low + 90, (4, 5, 3), dtype=np.uint8)
            write_image(root / name / f"{name}{index}.png", cv2.resize(coarse, (40, 32), interpolation=cv2.INTER_CUBIC))
    return root
