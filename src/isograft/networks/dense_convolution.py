"""A convolution of very small maps as one matrix from all input pixels to all output pixels, forward and backward.

Also what the functions here and in `matrix_convolution.py` share: their geometry, and what a backward pass may do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

T = TypeVar("T")


class Geometry(NamedTuple):
    """Kernel, stride and padding of a convolution, each for both axes."""

    kernel: int
    stride: int
    padding: int


def once(backward: Callable[..., T]) -> Callable[..., T]:
    """A backward pass as the library's: in the type it is given wherever it is called; and a second derivative is refused, not wrong."""
    guarded: Callable[..., T] = once_differentiable(torch.autocast("cpu", enabled=False)(backward))
    return guarded


def wide(values: Tensor) -> torch.dtype:
    """The type sums are kept in: half-precision parts are summed in float32."""
    return torch.promote_types(values.dtype, torch.float32)


class DenseConvolution(torch.autograd.Function):
    """A convolution of small maps as one matrix from all input pixels to all output pixels."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        """Float maps (B, C, H, W) and filters (F, C, k, k) to (B, F, h, w)."""
        images, channels, height, width = maps.shape
        kernel, stride, padding = geometry
        shape = tuple((side + 2 * padding - kernel) // stride + 1 for side in (height, width))
        filters = len(weight)
        meetings = list(_meetings((height, width), shape, geometry))
        parts = (shape[0] * shape[1], filters, height * width, channels)
        matrix = weight.new_zeros(parts) if len(meetings) < parts[0] * parts[2] else weight.new_empty(parts)
        for target, source, row, column in meetings:
            matrix[target, :, source] = weight[:, :, row, column]
        pixels = maps.permute(0, 2, 3, 1).reshape(images, -1)
        ctx.save_for_backward(pixels, matrix)
        ctx.geometry, ctx.shapes = geometry, ((height, width), shape)
        flat = pixels @ matrix.view(parts[0] * filters, -1).T
        return flat.view(images, *shape, filters).permute(0, 3, 1, 2)

    @staticmethod
    @once
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Gradients of the maps, if wanted, and of the filters."""
        pixels, matrix = ctx.saved_tensors
        (height, width), shape = ctx.shapes
        filters, channels, kernel = matrix.shape[1], matrix.shape[3], ctx.geometry[0]
        flat = gradients[0].permute(0, 2, 3, 1).reshape(len(pixels), -1)
        to_maps = None
        if ctx.needs_input_grad[0]:
            to_maps = (flat @ matrix.view(flat.shape[1], -1)).view(-1, height, width, channels).permute(0, 3, 1, 2)
        whole = (flat.T @ pixels).view_as(matrix)
        to_filter = matrix.new_zeros(filters, kernel, kernel, channels, dtype=wide(matrix))
        for target, source, row, column in _meetings((height, width), shape, ctx.geometry):
            to_filter[:, row, column] += whole[target, :, source]
        return to_maps, to_filter.permute(0, 3, 1, 2).to(matrix.dtype), None


def _meetings(maps: tuple[int, ...], shape: tuple[int, ...], geometry: Geometry) -> Iterator[tuple[int, int, int, int]]:
    """Output pixel, input pixel, row and column of the filter wherever a tap meets a pixel."""
    kernel, stride, padding = geometry
    for target in range(shape[0] * shape[1]):
        y, x = divmod(target, shape[1])
        for tap in range(kernel * kernel):
            row, column = divmod(tap, kernel)
            top, left = y * stride + row - padding, x * stride + column - padding
            if 0 <= top < maps[0] and 0 <= left < maps[1]:
                yield target, top * maps[1] + left, row, column
