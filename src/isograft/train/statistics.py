"""Batch statistics re-estimated on whole images, as inference will see them, at the end of pretraining.

While a network is pretrained its running means and variances follow crops with varied colours; the images it is used on are whole and
plain. After "precise BN" (arXiv:2105.07576) and adaptive BN (arXiv:1603.04779); docs/explanation/recipe.md has what it brought.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from isograft.data.cache import ImageCache
from isograft.data.draws import permutation
from isograft.data.preprocess import Preprocess

SAMPLE = 2048
BATCH = 128


@torch.no_grad()
def refresh_batch_statistics(network: nn.Module, images: ImageCache, preprocess: Preprocess, seed: int) -> int:
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
            norm.reset_running_stats()
            norm.momentum = None  # a plain average over the batches
        network.train()
        device = next(network.parameters()).device
        rows = permutation(seed, 0, len(images))[:SAMPLE]
        for begin in range(0, len(rows) - batch + 1, batch):
            pixels = np.stack([preprocess.fit(images[int(row)]) for row in rows[begin : begin + batch]])
            network(preprocess.normalise(torch.from_numpy(pixels).to(device)))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    network.eval()
    return len(norms)
