"""Batch norm over the batch of all processes: what each of them normalises with is what one process with the whole batch would.

torch's own synchronised batch norm computes on GPUs only; on a CPU the one here does the same with gloo. Neither adds or renames a tensor,
and the layers are ordinary ones again afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d, SyncBatchNormAct
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from isograft.errors import IsograftError

_KNOWN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, BatchNormAct2d)


@contextmanager
def synchronised(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Let every batch norm of a network take its statistics from all processes, as long as this is open.

    Without other processes nothing changes. A layer in eval mode uses its running statistics, as always.

    Args:
        network: Its layers change their class and keep their tensors, so optimizers and teachers do not notice.
        device: Where it will run.

    Raises:
        IsograftError: It has a kind of batch norm that cannot be synchronised.
    """
    several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    norms = [(name, module) for name, module in network.named_modules() if isinstance(module, _BatchNorm)] if several else []
    for name, norm in norms:
        if type(norm) not in _KNOWN:
            raise IsograftError(
                f"the layer {name} is a {type(norm).__name__}, whose statistics several processes cannot share; "
                "choose another --backbone, or train in one process"
            )
    plain = [(norm, type(norm)) for _, norm in norms]
    for norm, _ in plain:
        norm.__class__ = SyncBatchNormAct if device.type == "cuda" else SyncNorm
        norm.process_group = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for norm, kind in plain:
            norm.__class__ = kind


class SyncNorm(_BatchNorm):
    """Batch norm over all processes, on any device; applies the drop and activation that a timm layer has with it."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise float (B, C, …); B may differ between processes."""
        out = self._over_all(x) if self.training else self._plain(x)
        for name in ("drop", "act"):
            if hasattr(self, name):
                out = getattr(self, name)(out)
        return out

    def _plain(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.running_mean is None, 0.0, self.eps)

    def _over_all(self, x: Tensor) -> Tensor:
        out, mean, variance, count = _Normalise.apply(x, self.weight, self.bias, self.eps)
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
                self.running_var.lerp_((variance * count / (count - 1).clamp(min=1)).to(self.running_var.dtype), share)
        normalised: Tensor = out
        return normalised


class _Normalise(torch.autograd.Function):
    """Normalisation with mean and biased variance over all processes (arXiv:1502.03167, algorithm 1) and its exact gradient.

    Every process sends count, sum and square sum per channel, in float64 so that nothing cancels. The gradient of the input counts what
    the losses of all processes send through the shared statistics; that of scale and shift is this process's own, since data-parallel
    training averages the gradients of parameters.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        axes = [axis for axis in range(x.ndim) if axis != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        full = _full(x)
        variance, mean = torch.var_mean(full, dim=axes, correction=0)
        variance, mean = variance.double(), mean.double()
        own = torch.full((1,), x.numel() // x.shape[1], dtype=torch.float64, device=x.device)
        sums = torch.cat([own, own * mean, own * (variance + mean.square())])
        dist.all_reduce(sums)
        count, total, squares = torch.split(sums, [1, len(mean), len(mean)])
        mean = total / count
        variance = (squares / count - mean.square()).clamp(min=0)
        inverse = (variance + eps).rsqrt().to(full.dtype)
        normal = (full - mean.to(full.dtype).view(shape)) * inverse.view(shape)
        out = normal if weight is None else normal * weight.view(shape)
        out = out if bias is None else out + bias.view(shape)
        ctx.save_for_backward(x, weight, mean.to(full.dtype), inverse, count)
        ctx.axes, ctx.shape = axes, shape
        ctx.mark_non_differentiable(mean, variance, count)
        return out.to(x.dtype), mean, variance, count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        x, weight, mean, inverse, count = ctx.saved_tensors
        grad = _full(grads[0])
        normal = (_full(x) - mean.view(ctx.shape)) * inverse.view(ctx.shape)
        shift, scale = grad.sum(dim=ctx.axes), (grad * normal).sum(dim=ctx.axes)
        sums = torch.cat([shift, scale]).double()
        dist.all_reduce(sums)
        mean_shift, mean_scale = torch.split((sums / count).to(grad.dtype), len(shift))
        inner = grad - mean_shift.view(ctx.shape) - normal * mean_scale.view(ctx.shape)
        factor = inverse if weight is None else inverse * weight
        to_input = (inner * factor.view(ctx.shape)).to(x.dtype)
        return to_input, scale if ctx.needs_input_grad[1] else None, shift if ctx.needs_input_grad[2] else None, None


def _full(tensor: Tensor) -> Tensor:
    """The tensor as float32, or float64 if it is that."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
