"""What is explained: the log-odds of a class, and the image in which nothing is to be seen.

A class's own score is not enough: a constant added to all scores changes no answer, so a score alone can rise where the class becomes
less probable. The log-odds log(p / (1 - p)) do not have that freedom; for two classes they are the difference of the scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLUR = 4
"""The blurred image is smoothed by a Gaussian with a standard deviation of a `BLUR`-th of the image's side."""


class LogOdds(nn.Module):
    """A network's log-odds per class.

    Attributes:
        network: (B, 3, S, S) to logits (B, K), K at least 2.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Normalised float images (B, 3, S, S) to log(p / (1 - p)), float32 (B, K)."""
        logits: Tensor = self.network(images).float()
        classes = logits.shape[1]
        own = torch.eye(classes, dtype=torch.bool, device=logits.device)
        others = logits[:, None, :].expand(-1, classes, -1).masked_fill(own, -torch.inf)
        return logits - others.logsumexp(dim=2)


def blurred(images: Tensor) -> Tensor:
    """The same images with their structure smoothed away: brightness, and colour over large areas, stay.

    A grey square would be an object that no training image has, and against grey all plain skin counts as a finding. Against its
    own blurred copy a plain area differs in nothing, and so is credited with nothing.

    Args:
        images: Normalised float (B, 3, S, S).

    Returns:
        Float (B, 3, S, S), a Gaussian of sigma S / `BLUR` pixels over the image, whose border is repeated outwards.
    """
    side = images.shape[-1]
    place = torch.arange(side, dtype=torch.float64, device=images.device)
    beyond = torch.arange(-side, 2 * side, dtype=torch.float64, device=images.device)
    weights = torch.exp(-((beyond[None, :] - place[:, None]) ** 2) / (2 * (side / BLUR) ** 2))
    folded = torch.zeros(side, side, dtype=torch.float64, device=images.device)
    folded.index_add_(1, beyond.clamp(0, side - 1).long(), weights / weights.sum(1, keepdim=True))
    smooth = folded.to(images.dtype)
    return torch.einsum("ij,bcjk,lk->bcil", smooth, images, smooth)


def stretched(values: Tensor, side: int) -> Tensor:
    """A coarse map (h, w) over the whole square, bilinear: float (side, side)."""
    return F.interpolate(values[None, None], (side, side), mode="bilinear", align_corners=False)[0, 0]


@contextmanager
def repeatable_kernels() -> Iterator[None]:
    """Full float32 and the same bytes each time, on a GPU too."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False), torch.enable_grad():
        yield
