"""A study's folder made up once, for all tests that only read it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from isograft.study.report import write_report

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
