"""Rendering of sampled views with torch, for a batch on any device; agrees with `render.render_opencv` to rounding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from isograft.data.render import block_factors, blur_reach, on_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from isograft.data.augment import Views


def render_torch(images: torch.Tensor, views: Views, size: int) -> torch.Tensor:
    """Render one view of each image of a batch.

    Against OpenCV, whose warp works with rounded weights (and before version 4.11 with positions
    rounded to 1/32 pixel), values differ by a grey level here and there; where neighbouring pixels
    differ by more than a hundred levels, or where a value sits on the solarisation threshold, by more.

    Args:
        images: uint8 (B, 3, h, w) RGB, one size for all.
        views: B sampled views.
        size: side S of a view in pixels.

    Returns:
        uint8 (B, S, S, 3) on the device of `images`.
    """
    factors = block_factors(views.affine)
    warped = torch.empty(len(images), 3, size, size, device=images.device)
    for factor in np.unique(factors):
        rows = np.flatnonzero(factors == factor)
        index = torch.from_numpy(rows).to(images.device)
        warped[index] = _warp(_blocks(images[index].float(), int(factor)), on_blocks(views.affine[rows], int(factor)), size)
    colour = torch.from_numpy(views.colour).to(images.device)
    mixed = torch.einsum("brc,bcyx->bryx", colour[:, :, :3], warped) + 255 * colour[:, :, 3, None, None]
    result = _blur(_to_levels(mixed), views.blur)
    threshold = torch.from_numpy(views.solarize).to(images.device).view(-1, 1, 1, 1)
    result = torch.where((result >= 255 * threshold) & (threshold <= 1), 255 - result, result)
    return result.permute(0, 2, 3, 1).to(torch.uint8).contiguous()


def _blocks(images: torch.Tensor, factor: int) -> torch.Tensor:
    """Averages over factor×factor blocks, rounded as pixels are."""
    if factor == 1:
        return images
    height, width = images.shape[2:]
    if height < factor or width < factor:  # one incomplete block is averaged as it is
        blocks = (max(1, height // factor), max(1, width // factor))
        whole = images[:, :, : min(height, blocks[0] * factor), : min(width, blocks[1] * factor)]
        return _to_levels(F.adaptive_avg_pool2d(whole, blocks))
    return _to_levels(F.avg_pool2d(images, factor))


def _warp(images: torch.Tensor, affine: NDArray[np.float32], size: int) -> torch.Tensor:
    """Bilinear warp with a mirrored border: float (B, 3, h, w) levels to (B, 3, S, S) levels."""
    matrix = torch.from_numpy(np.ascontiguousarray(affine)).to(images.device)
    steps = torch.arange(size, device=images.device, dtype=torch.float32)
    position = matrix[:, None, None, :, 0] * steps[None, None, :, None] + matrix[:, None, None, :, 1] * steps[None, :, None, None]
    position = position + matrix[:, None, None, :, 2]
    height, width = images.shape[2:]
    extent = torch.tensor([max(width - 1, 1), max(height - 1, 1)], device=images.device, dtype=torch.float32)
    grid = position * (2 / extent) - 1
    return _to_levels(F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=True))


def _blur(images: torch.Tensor, sigmas: NDArray[np.float32]) -> torch.Tensor:
    """Gaussian blur of the rows whose sigma is above 0, with the kernel OpenCV uses."""
    for row in np.flatnonzero(sigmas > 0):
        sigma = float(sigmas[row])
        reach = blur_reach(sigma, images.shape[-1])
        offsets = torch.arange(-reach, reach + 1, device=images.device, dtype=torch.float32)
        kernel = torch.exp(-offsets.square() / (2 * sigma**2))
        kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
        image = F.pad(images[row, :, None], (reach, reach, reach, reach), mode="reflect")
        images[row] = _to_levels(F.conv2d(F.conv2d(image, kernel), kernel.transpose(2, 3)))[:, 0]
    return images


def _to_levels(images: torch.Tensor) -> torch.Tensor:
    """Round to the 256 levels of uint8, still as float."""
    return images.round().clamp_(0, 255)
