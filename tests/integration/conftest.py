"""The demo at a tiny scale, told once for all tests that look at what it leaves behind."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from isograft.demo import Scale, tell
from isograft.settings import DemoSettings

NETWORK = {"backbone": "resnet10t", "image_size": 32, "epochs": 1, "batch_size": 16, "domain": "dermoscopy"}
TINY = Scale(pool=40, labeled=60, size=40, labels_per_class=5, test_fraction=0.4, predictions=4, pretrain=NETWORK, finetune={"epochs": 1})


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pl.DataFrame]:
    """The folder of the demo and the table it returns."""
    out = tmp_path_factory.mktemp("demo") / "out"
    return out, tell(DemoSettings(out=out, seed=3), TINY)
