"""A small trained classifier, an ensemble, and a backbone, with the images they were trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import isograft

pytest.importorskip("onnx", reason="export to ONNX needs the extra onnx")
pytest.importorskip("onnxruntime", reason="export to ONNX needs the extra onnx")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `images`, `classifier`, `ensemble` and `backbone`; the images are 40 x 52 and a few of 90 x 64 pixels."""
    root = tmp_path_factory.mktemp("export")
    for kind, name in enumerate(("melanoma", "nevus")):
        (root / "images" / name).mkdir(parents=True)
        for seed in range(40):
            draw = np.random.default_rng(100 * kind + seed)
            shape = (90, 64, 3) if seed % 10 == 0 else (40, 52, 3)
            image = draw.normal(150, 25, size=shape)
            image[:, kind * 4 :: 8] -= draw.uniform(0, 50 * kind + 10)
            cv2.imwrite(str(root / "images" / name / f"{seed}.png"), image.clip(0, 255).astype(np.uint8))
    options: dict[str, Any] = {"init": "scratch", "backbone": "test_resnet", "threads": 1, "cache_dir": root / "cache"}
    options |= {"image_size": 32, "epochs": 1}
    point = "screening: melanoma sensitivity >= 0.9"
    isograft.finetune(root / "images", out=root / "classifier", val_fraction=0.3, operating_point=point, **options)
    isograft.finetune(root / "images", out=root / "ensemble", folds=2, **options)
    isograft.pretrain(root / "images", out=root / "backbone", **{**options, "epochs": 1, "batch_size": 16})
    return root
