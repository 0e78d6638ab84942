"""Batch statistics: kept as they are while a network with weights is trained on, re-estimated when a new one is finished.

A network that starts from weights keeps the statistics they were trained with: batches of another domain would change what every layer
passes on before any weight has moved. A new one follows crops with varied colours while it is pretrained, but is used on whole, plain
images. After "precise BN" (arXiv:2105.07576); docs/explanation/recipe.md has what either brought.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from isograft.data.draws import permutation
from isograft.data.preprocess import Preprocess
from isograft.train.micro_batches import as_many_as_fit

SAMPLE = 2048
BATCH = 128


def freeze_batch_statistics(network: nn.Module) -> None:
    """Make every batch norm use its running statistics, and leave them as they are; its scale and shift are still trained."""
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


def statistics_reason(kept: bool) -> str:
    """Why batch statistics are kept, or not."""
    return (
        "the weights expect the batch statistics they were trained with" if kept else "the network has no trained batch statistics to keep"
    )


@torch.no_grad()
def refresh_batch_statistics(network: nn.Module, images: Sequence[npt.NDArray[np.uint8]], preprocess: Preprocess, seed: int) -> int:
    """Replace the running statistics of every batch norm by averages over up to 2,048 whole images.

    Args:
        network: Maps float (B, 3, S, S) to (B, D); left in eval mode.
        images: Working-size images.
        preprocess: The one preprocessing.
        seed: Seed of the sample.

    Returns:
        The number of batch norms refreshed.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    batch = min(BATCH, len(images))
    if norms and batch >= 2:
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = None  # a plain average over the batches
        network.train()
        device = next(network.parameters()).device
        rows = permutation(seed, 0, len(images))[:SAMPLE]

        def measure(size: int) -> None:
            for norm in norms:
                norm.reset_running_stats()
            for begin in range(0, len(rows) - size + 1, size):
                pixels = np.stack([preprocess.fit(images[int(row)]) for row in rows[begin : begin + size]])
                network(preprocess.normalise(torch.from_numpy(pixels).to(device)))

        as_many_as_fit(measure, batch, least=2)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    network.eval()
    return len(norms)
