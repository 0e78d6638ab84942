"""Tiny classifiers that were trained to tell a red blob from a blue one, wherever it lies, and images of such blobs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from isograft.data.preprocess import Preprocess
from isograft.networks.backbones import build_backbone, feature_count
from isograft.networks.heads import Classifier, build_head

SIDE = 32
RADIUS = 5
STEPS = 40


@dataclass(frozen=True)
class Blobs:
    """Images with one blob each.

    Attributes:
        pixels: uint8 (N, S, S, 3), grey noise with a blob.
        labels: int64 (N,): 0 red, 1 blue.
        inside: bool (N, S, S): the blob and a margin of half its radius.
    """

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    inside: npt.NDArray[np.bool_]


def blobs(count: int, seed: int) -> Blobs:
    """Draw such images."""
    draw = np.random.default_rng(seed)
    centre = draw.uniform(RADIUS, SIDE - RADIUS, (count, 2))
    labels = np.arange(count) % 2
    rows, columns = np.mgrid[:SIDE, :SIDE]
    distance = np.hypot(rows - centre[:, 0, None, None], columns - centre[:, 1, None, None])
    image = draw.normal(110, 12, (count, SIDE, SIDE, 1)).repeat(3, axis=3)
    strength = np.clip((RADIUS - distance) / 2 + 1, 0, 1)
    colour = np.array([[90, -30, -30], [-30, -30, 90]])[labels]
    image += strength[..., None] * colour[:, None, None, :]
    return Blobs(np.clip(image, 0, 255).astype(np.uint8), labels, distance <= 1.5 * RADIUS)


PREPROCESS = Preprocess(image_size=SIDE, working_size=SIDE)
NETWORKS = {"alzubaidi_light": {"width": 8}, "test_vit": {"patch_size": 8}, "test_resnet": {}}


def untrained(name: str, seed: int) -> Classifier:
    """A classifier of two classes with random weights."""
    torch.manual_seed(seed)
    backbone = build_backbone(name, NETWORKS[name], SIDE)
    return Classifier(backbone, build_head("linear", feature_count(backbone), 2)).eval()


@cache
def trained(name: str) -> Classifier:
    """A classifier that tells red blobs from blue ones without a mistake on new images."""
    network = untrained(name, seed=0).train()
    seen = blobs(192, seed=1)
    images, labels = PREPROCESS.normalise(torch.from_numpy(seen.pixels)), torch.from_numpy(seen.labels)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    order = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        chosen = torch.randperm(len(images), generator=order)[:24]
        loss = nn.functional.cross_entropy(network(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@pytest.fixture(scope="session")
def new_blobs() -> Blobs:
    """Images that no classifier was trained on."""
    return blobs(6, seed=2)


@pytest.fixture(scope="session")
def batch(new_blobs: Blobs) -> torch.Tensor:
    """Two of them as the network's input, float (2, 3, S, S)."""
    return PREPROCESS.normalise(torch.from_numpy(new_blobs.pixels[:2])).contiguous()
