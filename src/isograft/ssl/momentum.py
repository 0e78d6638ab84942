"""Teachers: copies of a network that follow it as an exponential moving average."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


def teacher_of(network: nn.Module) -> nn.Module:
    """Copy a network into one that is not trained and, while it runs in training mode, drops nothing.

    Batch norms of the teacher keep their own running statistics, from the teacher's own passes.
    """
    teacher = copy.deepcopy(network)
    teacher.requires_grad_(False)
    for module in teacher.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif hasattr(module, "drop_prob"):  # timm's stochastic depth
            module.drop_prob = 0.0  # type: ignore[assignment]
    return teacher


def momentum_at(progress: float, base: float) -> float:
    """Momentum on a half cosine from `base` at the start to 1 at the end (arXiv:2006.07733, section 3.2).

    Args:
        progress: Share of the run that is done, in [0, 1].
        base: Momentum at the start, in [0, 1].
    """
    progress = min(max(progress, 0.0), 1.0)
    return 1.0 - (1.0 - base) * (math.cos(math.pi * progress) + 1.0) / 2.0


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move the teacher's parameters: teacher = momentum * teacher + (1 - momentum) * student."""
    ours, theirs = list(teacher.parameters()), list(student.parameters())
    if ours:
        get_ema_multi_avg_fn(momentum)(ours, theirs, 0)  # type: ignore[no-untyped-call]
