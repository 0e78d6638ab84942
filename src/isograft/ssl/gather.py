"""The batch across processes: gathering with gradient, and means over all ranks."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of training processes, 1 when not distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process among them, 0 when not distributed."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def gather(tensor: Tensor) -> Tensor:
    """Stack a tensor from all ranks: (…) -> (ranks, …), the same shape on every rank.

    The gradient of each rank's own part is the *sum* of what all ranks' losses send to it, so
    that after the usual averaging of parameter gradients over ranks the step is that of one
    process with the whole batch and a loss averaged over it.
    """
    if world_size() == 1:
        return tensor.unsqueeze(0)
    gathered: Tensor = _Gather.apply(tensor)
    return gathered


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """The mean of a tensor without gradient over all ranks."""
    if world_size() == 1:
        return tensor
    total = tensor.clone()
    dist.all_reduce(total)
    return total / world_size()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        parts = [torch.empty_like(tensor) for _ in range(world_size())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        return total[rank()]
