"""Many linear probes on one pass of features: the backbone is frozen, so its features of an image are the same in every run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from isograft.data.cache import ImageCache
from isograft.data.manifest import Manifest
from isograft.plan import Plan
from isograft.settings import FinetuneSettings
from isograft.train.engine import training_device
from isograft.train.monitoring import embed
from isograft.train.partition import partition
from isograft.train.probe import fit_probe
from isograft.train.start import open_start


@dataclass(frozen=True)
class Predicted:
    """A classifier's answers on its test images.

    Attributes:
        rows: int64 (N,), which rows of the manifest they are.
        truth: int64 (N,) class numbers.
        probabilities: float64 (N, K).
        train_images: How many labeled images it was trained on.
    """

    rows: npt.NDArray[np.int64]
    truth: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]
    train_images: int


def frozen_features(
    manifest: Manifest,
    *,
    init: str,
    backbone: str,
    backbone_arg: tuple[str, ...],
    image_size: int,
    seed: int,
    cache_dir: Path,
    threads: int,
) -> npt.NDArray[np.float32]:
    """Embed every image of a task with the weights a run would start from.

    Args:
        manifest: Usable, labeled rows.
        init: As `finetune --init`.
        backbone: timm name, or `auto` for the network of the weights.
        backbone_arg: Arguments of the backbone.
        image_size: Side of the network's input in pixels.
        seed: Seed of random weights: a run from scratch with this seed has the same.
        cache_dir: Folder of the decoded images.
        threads: Decoding threads.

    Returns:
        float32 (N, D).
    """
    torch.manual_seed(seed)
    start = open_start(init, backbone, backbone_arg)
    preprocess = start.preprocess(image_size)
    device = training_device()
    network = start.build(image_size).to(memory_format=torch.channels_last).to(device)
    images = ImageCache.build(manifest, preprocess, cache_dir, threads)
    features: npt.NDArray[np.float32] = embed(network, images, np.arange(len(manifest)), preprocess, device).numpy()
    return features


def probe(features: npt.NDArray[np.float32], manifest: Manifest, settings: FinetuneSettings) -> Predicted:
    """Fit and test one linear probe, as `finetune --strategy probe` and `evaluate` would.

    Args:
        features: float32 (N, D), of every row.
        manifest: N usable, labeled rows.
        settings: Split, labels per class and seed.

    Raises:
        IsograftError: The split cannot be made.
    """
    rows = partition(settings, manifest, Plan())
    numbers = manifest.class_numbers()
    solved = fit_probe(features[rows.train], numbers[rows.train], manifest.groups()[rows.train], settings.seed)
    logits = solved.logits(features[rows.test])
    return Predicted(rows.test, numbers[rows.test], torch.from_numpy(logits).double().softmax(dim=1).numpy(), len(rows.train))
