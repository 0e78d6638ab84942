"""`--threads` changes how long a verb takes, and no byte of what it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import isograft

SMALL: dict[str, Any] = {"backbone": "test_resnet", "image_size": 32, "precision": "fp32"}
THREADS = (1, 2, 4)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, bytes]]:
    """What all verbs wrote, by number of threads; every number begins with an empty cache."""
    root = tmp_path_factory.mktemp("threads")
    for data, kind in ((data, kind) for data in ("images", "pool") for kind in (0, 1)):
        (root / data / "ab"[kind]).mkdir(parents=True)
        for number in range(24):
            rng = np.random.default_rng([len(data), kind, number])
            shape = (int(rng.integers(40, 60)), int(rng.integers(40, 60)), 3)
            image = rng.normal(100 + 40 * kind, 40, size=shape).clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(root / data / "ab"[kind] / f"{number}.png"), image)
    (root / "images" / "a" / "broken.png").write_bytes(b"no image")
    return {threads: _run(root, threads) for threads in THREADS}


def _run(root: Path, threads: int) -> dict[str, bytes]:
    out, images = root / str(threads), root / f"{threads}.parquet"
    shared = {"threads": threads, "cache_dir": out / "cache"}
    isograft.ingest(root / "images", out=images, threads=threads)
    isograft.pretrain(root / "pool", out=out / "pretrained", epochs=3, batch_size=16, **SMALL, **shared)
    tuned = {"init": out / "pretrained", "image_size": 32, "precision": "fp32", "test_fraction": 0.3}
    isograft.finetune(images, out=out / "tuned", epochs=3, batch_size=16, val_fraction=0.2, **tuned, **shared)
    isograft.finetune(images, out=out / "folds", epochs=2, folds=2, strategy="full", **tuned, **shared)
    isograft.evaluate(out / "tuned", out=out / "evaluated", threads=threads)
    isograft.predict(out / "folds", images, out=out / "predicted.parquet", engine="torch", threads=threads)
    metrics = json.loads((out / "evaluated" / "metrics.json").read_bytes())
    del metrics["created"], metrics["model"]["content_hash"]  # which holds the name of the data, here the number of threads
    files = {
        "ingest": images,
        "cache": max((out / "cache").glob("images-*.cache")),
        "pretrain": out / "pretrained" / "model.safetensors",
        "finetune": out / "tuned" / "model.safetensors",
        "finetune --folds": out / "folds" / "model.safetensors",
        "evaluate": out / "evaluated" / "predictions.parquet",
        "predict": out / "predicted.parquet",
    }
    return {**{name: path.read_bytes() for name, path in files.items()}, "metrics": json.dumps(metrics).encode()}


@pytest.mark.parametrize("threads", THREADS[1:])
@pytest.mark.parametrize(
    "verb", ["ingest", "cache", "pretrain", "finetune", "finetune --folds", "evaluate", "metrics", "predict"]
)  # fmt: skip
def test_the_bytes_are_those_of_one_thread(verb: str, threads: int, written: dict[int, dict[str, bytes]]) -> None:
    assert written[threads][verb] == written[1][verb]
