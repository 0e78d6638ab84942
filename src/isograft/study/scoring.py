"""The answers of a fine-tuned classifier on the images that were kept for its test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from isograft.data.cache import ImageCache
from isograft.data.manifest import Manifest
from isograft.data.places import SPLIT_FILE
from isograft.model import Model
from isograft.study.probes import Predicted
from isograft.train.engine import training_device
from isograft.train.monitoring import embed


def predict_held_out(model: Model, manifest: Manifest, cache_dir: Path, threads: int) -> Predicted:
    """Classify the test rows of a model's own split, from the cache of decoded images.

    The numbers are those of `evaluate` up to the rounding of another batch; no image is decoded again.

    Args:
        model: The classifier; its split.parquet has the rows of `manifest` in their order.
        manifest: The task's images.
        cache_dir: Folder of the decoded images.
        threads: Threads for decoding what is not in the cache.
    """
    split = pl.read_parquet(model.folder / SPLIT_FILE, columns=["split"])["split"].to_numpy()
    rows = np.flatnonzero(split == "test").astype(np.int64)
    images = ImageCache.build(manifest, model.preprocess, cache_dir, threads)
    device = training_device()
    logits = embed(model.network().to(device), images, rows, model.preprocess, device).double()
    train = int(np.isin(split.astype(str), ["train", "val"]).sum())
    return Predicted(rows, manifest.class_numbers(model.classes)[rows], logits.softmax(dim=1).numpy(), train)
