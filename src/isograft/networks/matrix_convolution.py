"""Convolutions whose gradients are matrix products: for training on CPUs, where the library's own are slow.

On AVX2 oneDNN computes the gradient of a filter over channels-last maps at half the speed of a matrix product, and over maps smaller than
the filter at an eighth (torch 2.15); on AVX-512 only the latter is slow (`benchmarks/step.py` measures it). Three ways around it, which
give the same numbers to rounding:

- *columns*: the patches under the filter are written as rows of a matrix, a few images at a time so that they stay in the cache, and the
  filter's gradient is the product of the output's gradient with it (im2col: Chellapilla et al., High Performance Convolutional Neural
  Networks for Document Processing, 2006);
- *shifted*: on maps large against the filter, padded pixels and padded gradients lie in memory alike, so that the gradient of each tap is
  one product of the two, shifted against each other; nothing is written but the padding;
- *dense* (`dense_convolution.py`): on a map of no more than half as many pixels as the filter has taps (2 x 2 under 3 x 3), where most
  taps meet nothing but padding, the convolution of many images is a matrix from all input pixels to all output pixels, which takes less
  arithmetic.

Only the arithmetic of the training step changes. Names, shapes and layout of the weights stay; without gradients (evaluation,
export) the library's convolution runs, to the bit as in any other network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isograft.networks.alzubaidi import SameConv2d
from isograft.networks.dense_convolution import DenseConvolution, Geometry, once, wide

CACHE_BYTES = 2**21
"""Of columns or padded maps at a time, for each thread: what stays in a core's share of the cache."""
WASTE_OF_SMALL, WASTE_OF_LARGE = 1.25, 1.5
"""How much larger a padded map may be than the map for filters of up to 3 x 3, and for larger ones, to be shifted and not written out."""
FEWEST_IMAGES = 32  # in a batch for which the dense matrix, larger than the filter, is worth making
FEWEST_CHANNELS = 16  # of an image's three channels, the columns would cost more than the product


def matrix_conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int], *, small_only: bool = False
) -> Tensor:
    """`F.conv2d` of a square convolution, trained by matrix products on a CPU: float (B, C, H, W) to (B, F, h, w).

    Without gradients, for one image without a batch, or where the axes differ, it is the library's. It can be differentiated once.

    Args:
        input: Float (B, C, H, W).
        weight: Float (F, C, k, k).
        bias: Float (F,).
        stride: Of both axes.
        padding: Of both axes.
        small_only: Leave all but many maps of at most half as many pixels as the filter has taps to the library.
    """
    small = len(input) >= FEWEST_IMAGES and 2 * input.shape[-2] * input.shape[-1] <= weight.shape[2] ** 2
    trained = torch.is_grad_enabled() and weight.requires_grad and input.device.type == "cpu"
    if not trained or (small_only and not small) or input.dim() != 4 or len({*stride}) > 1 or len({*padding}) > 1:
        return F.conv2d(input, weight, bias, stride, padding)
    if torch.is_autocast_enabled("cpu") and input.dtype != torch.float64:  # which autocast leaves alone
        dtype = torch.get_autocast_dtype("cpu")
        input, weight, bias = input.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    geometry = Geometry(weight.shape[2], stride[0], padding[0])
    maps: Tensor = (DenseConvolution if small else _Gradient).apply(input, weight, geometry)
    return maps if bias is None else maps + bias.view(1, -1, 1, 1)


small_matrix_conv2d = partial(matrix_conv2d, small_only=True)


class MatrixConv2d(nn.Conv2d):
    """A convolution with the same weights and outputs as `nn.Conv2d`, trained by matrix products; made by `use_kernels`."""

    convolve: ClassVar[Callable[..., Tensor]] = staticmethod(matrix_conv2d)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self.convolve(input, weight, bias, self.stride, self.padding)


class SmallMatrixConv2d(MatrixConv2d):
    """The same, by matrix products on small maps only."""

    convolve = staticmethod(small_matrix_conv2d)


class MatrixSameConv2d(SameConv2d):
    """The same as `MatrixConv2d` for the paper's convolution, which pads by itself."""

    convolve = staticmethod(matrix_conv2d)


class SmallMatrixSameConv2d(SameConv2d):
    """The same, by matrix products on small maps only."""

    convolve = staticmethod(small_matrix_conv2d)


Kernels = Literal["library", "products", "dense"]
"""The library's own; matrix products for all gradients of filters; the dense matrix on small maps, and else the library."""

_KINDS: dict[Kernels, tuple[type[nn.Conv2d], type[nn.Conv2d]]] = {
    "library": (nn.Conv2d, SameConv2d),
    "products": (MatrixConv2d, MatrixSameConv2d),
    "dense": (SmallMatrixConv2d, SmallMatrixSameConv2d),
}


def use_kernels(network: nn.Module, kernels: Kernels) -> int:
    """Let the convolutions of a network be trained by these kernels, in place.

    Args:
        network: Any; plain square convolutions of at least 16 channels, without groups or dilation, change.
        kernels: Which.

    Returns:
        The number of convolutions concerned.
    """
    places = {kind: place for kinds in _KINDS.values() for place, kind in enumerate(kinds)}
    found = _concerned(network)
    for module in found:
        module.__class__ = _KINDS[kernels][places[type(module)]]
    return len(found)


def has_choice(network: nn.Module) -> bool:
    """Whether a network has convolutions that could be trained otherwise than by the library."""
    return bool(_concerned(network))


def _concerned(network: nn.Module) -> list[nn.Conv2d]:
    """The convolutions whose kernels can be chosen."""
    known = {kind for kinds in _KINDS.values() for kind in kinds}
    return [module for module in network.modules() if isinstance(module, nn.Conv2d) and type(module) in known and _fits(module)]


def _fits(layer: nn.Conv2d) -> bool:
    """Whether a convolution is of the plain kind that the products are written for."""
    square = all(len(set(pair)) == 1 for pair in (layer.kernel_size, layer.stride)) and not isinstance(layer.padding, str)
    plain = layer.groups == 1 and layer.padding_mode == "zeros" and set(layer.dilation) == {1}
    return square and plain and len(set(layer.padding)) == 1 and layer.in_channels >= FEWEST_CHANNELS


class _Gradient(torch.autograd.Function):
    """The library's convolution, with the gradient of the filter from columns or shifted maps."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(maps, weight)
        ctx.geometry = geometry
        return F.conv2d(maps, weight, None, geometry.stride, geometry.padding)

    @staticmethod
    @once
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        maps, weight = ctx.saved_tensors
        _, stride, padding = ctx.geometry
        (gradient,) = gradients
        to_maps = None
        if ctx.needs_input_grad[0]:
            sides = ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1)
            to_maps = torch.ops.aten.convolution_backward(gradient, maps, weight, None, *sides, [True, False, False])[0]
        return to_maps, _filter_gradient(maps, gradient, weight, ctx.geometry), None


def _filter_gradient(maps: Tensor, gradient: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """Gradient (F, C, k, k) of the filter, channels-last, from maps (B, C, H, W) and the output's gradient (B, F, h, w)."""
    height, width = gradient.shape[2:]
    reach = (geometry.kernel - 1) // geometry.stride
    waste = (height + reach) * (width + reach) / (height * width)
    by_shift = geometry.kernel > 1 and waste <= (WASTE_OF_SMALL if geometry.kernel <= 3 else WASTE_OF_LARGE)
    pixels, sums = maps.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
    result = _shifted_products(pixels, sums, geometry) if by_shift else _column_products(pixels, sums, geometry)
    return result.permute(0, 3, 1, 2).to(weight.dtype)


def _column_products(pixels: Tensor, sums: Tensor, geometry: Geometry) -> Tensor:
    """Gradient (F, k, k, C) from pixels (B, H, W, C) and the output's gradient (B, h, w, F), patch by patch."""
    kernel, stride, padding = geometry
    images, height, width, filters = sums.shape
    taps = kernel * kernel * pixels.shape[3]
    result = torch.zeros(filters, taps, dtype=wide(pixels))
    at_once = _at_once(height * width * taps, pixels)
    if kernel == stride == 1:
        at_once = images  # the maps are the columns
    for begin in range(0, images, at_once):
        part = slice(begin, begin + at_once)
        _add_product(result, sums[part].reshape(-1, filters), _columns(pixels[part], kernel, stride, padding).reshape(-1, taps))
    return result.view(filters, kernel, kernel, -1)


def _shifted_products(pixels: Tensor, sums: Tensor, geometry: Geometry) -> Tensor:
    """Gradient (F, k, k, C) from pixels (B, H, W, C) and the output's gradient (B, h, w, F), tap by tap.

    Pixels are taken apart by their remainder against the stride, and the gradient is padded to their rows and columns: a tap then is an
    offset into the flattened pixels.
    """
    kernel, stride, padding = geometry
    images, height, width, filters = sums.shape
    channels, reach = pixels.shape[3], (kernel - 1) // stride
    rows, columns = height + reach, width + reach
    after = [columns * stride - padding - pixels.shape[2], rows * stride - padding - pixels.shape[1]]
    result = torch.zeros(kernel, kernel, filters, channels, dtype=wide(pixels))
    at_once = _at_once(rows * columns * (filters + channels), pixels)
    for begin in range(0, images, at_once):
        part = slice(begin, begin + at_once)
        padded = F.pad(pixels[part], (0, 0, padding, after[0], padding, after[1]))
        weights = F.pad(sums[part], (0, 0, 0, reach, 0, reach)).reshape(-1, filters)
        for remainder in range(min(stride, kernel) ** 2):
            top, left = divmod(remainder, min(stride, kernel))
            flat = padded[:, top::stride, left::stride].reshape(-1, channels)
            for row in range(top, kernel, stride):
                for column in range(left, kernel, stride):
                    offset = row // stride * columns + column // stride
                    _add_product(result[row, column], weights[: len(weights) - offset], flat[offset:])
    return result.permute(2, 0, 1, 3)


def _at_once(numbers: int, pixels: Tensor) -> int:
    """Images to take together, where each takes so many numbers of the kind of `pixels`."""
    return max(1, CACHE_BYTES * torch.get_num_threads() // (numbers * pixels.element_size()))


def _add_product(total: Tensor, rows: Tensor, columns: Tensor) -> None:
    """Add the product of (N, F), turned over, and (N, C) to a total (F, C)."""
    if total.dtype == columns.dtype:
        total.addmm_(rows.T, columns)
    else:
        total += (rows.T @ columns).to(total.dtype)


def _columns(pixels: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """View of (B, H, W, C) maps as the patches under a filter: (B, h, w, k, k, C)."""
    pixels = F.pad(pixels, (0, 0, padding, padding, padding, padding)).contiguous()
    images, rows, columns, channels = pixels.shape
    height, width = (rows - kernel) // stride + 1, (columns - kernel) // stride + 1
    image, row, column, _ = pixels.stride()
    return pixels.as_strided((images, height, width, kernel, kernel, channels), (image, stride * row, stride * column, row, column, 1))
