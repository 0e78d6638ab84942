"""A study's folder made up once, for all tests that only read it; and tiny pools and tasks of synthetic images, for those that run one."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from isograft.study.report import write_report
from isograft.study.spec import StudySpec, read_spec

HERE = Path(__file__).resolve()


def load(path: Path) -> ModuleType:
    """Import a file that is no part of a package."""
    if path.stem in sys.modules:
        return sys.modules[path.stem]
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def fabricate() -> Callable[..., Path]:
    """The function that makes a study's folder up, see fabricated.py."""
    made: Callable[..., Path] = load(HERE.parent / "fabricated.py").fabricate
    return made


@pytest.fixture(scope="session")
def coverage() -> ModuleType:
    """benchmarks/study_coverage.py: simulated studies whose truth is known."""
    return load(HERE.parents[3] / "benchmarks" / "study_coverage.py")


@pytest.fixture(scope="session")
def told(fabricate: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A study of three arms under two protocols, and its summary; its report is written."""
    folder = fabricate(
        tmp_path_factory.mktemp("told") / "study",
        skill={"scratch": -0.3, "imagenet": 0.0, "in-domain": 0.6},
        protocols=("clean", "leaky-pool"),
        inflation=0.3,
        groups=120,
    )
    return folder, write_report(folder)


def _draw(kind: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([kind, seed])
    image = rng.normal(150, 12, size=(40, 48, 3)) + cv2.resize(rng.normal(0, 30, size=(5, 6, 3)), (48, 40))
    if kind == 0:
        cv2.circle(image, (int(rng.integers(14, 34)), int(rng.integers(12, 28))), 9, (90, 60, 60), -1)
    else:
        image[:, int(rng.integers(0, 6)) :: 8] -= 60
    return image.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def synthetic_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the images of a study: pool, task and other, 24 of either class each."""
    root = tmp_path_factory.mktemp("synthetic")
    for place, data in enumerate(("pool", "task", "other")):
        for kind, name in enumerate(("spot", "stripes")):
            (root / data / name).mkdir(parents=True)
            for number in range(24):
                cv2.imwrite(str(root / data / name / f"{number}.png"), _draw(kind, 100 * place + number))
    return root


@pytest.fixture(scope="session")
def study_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def write_study(synthetic_study: Path) -> Callable[..., Path]:
    """A function that writes a study file beside the images, with changes, and returns its path."""

    def write(**changes: Any) -> Path:
        spec = {
            "title": "tiny synthetic study",
            "pools": {"p": {"data": "pool"}},
            "tasks": {"t": {"data": "task"}, "u": {"data": "other"}},
            "arms": {"scratch": [], "in-domain": ["pool:p"], "double": ["pool:p", "task:u"]},
            "labels_per_class": [3, 6],
            "repeats": 2,
            "backbones": ["test_resnet"],
            "image_size": 32,
            "pretrain": {"epochs": 1, "batch_size": 16},
            "finetune": {"strategy": "probe"},
            **changes,
        }
        path = synthetic_study / f"study-{abs(hash(str(spec)))}.yaml"
        path.write_text(yaml.safe_dump(spec, sort_keys=False))
        return path

    return write


@pytest.fixture
def make_spec(write_study: Callable[..., Path]) -> Callable[..., StudySpec]:
    """A function that gives a study with changes, read from its file."""
    return lambda **changes: read_spec(write_study(**changes))
