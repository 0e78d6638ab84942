"""Rendering of sampled views with torch, for a batch on any device; agrees with `render.render_opencv` to rounding.

Images of unequal size lie one after the other in one buffer, so a batch travels to the device in one copy and is rendered there in a few
calls, however many views it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from isograft.data.render import block_factors, blur_reach, on_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from isograft.data.augment import Views


@dataclass(frozen=True)
class Packed:
    """B images of any sizes in one buffer.

    Attributes:
        pixels: uint8 (P, 3) RGB, image after image, row after row.
        shapes: int64 (B, 2) height and width of each, on the device of `pixels`.
    """

    pixels: torch.Tensor
    shapes: torch.Tensor

    @classmethod
    def of(cls, images: Sequence[NDArray[np.uint8]]) -> Packed:
        """Pack uint8 (h, w, 3) images."""
        packed = cls.empty(np.array([image.shape[:2] for image in images], np.int64).reshape(-1, 2))
        packed.fill(0, images)
        return packed

    @classmethod
    def empty(cls, shapes: NDArray[np.int64], *, pinned: bool = False) -> Packed:
        """Room for images of these heights and widths, (B, 2); `pinned` memory can be copied to a GPU while it computes."""
        pixels = torch.empty(int(shapes.prod(axis=1).sum()), 3, dtype=torch.uint8, pin_memory=pinned)
        return cls(pixels, torch.from_numpy(np.ascontiguousarray(shapes)))

    def fill(self, first: int, images: Sequence[NDArray[np.uint8]]) -> None:
        """Write images into the places from number `first` on.

        Raises:
            ValueError: An image is not of the shape it was announced with.
        """
        begins, target = self._begins().tolist(), self.pixels.numpy()
        for number, image in enumerate(images, first):
            if image.shape[:2] != tuple(self.shapes[number].tolist()):
                raise ValueError(f"image {number} is {image.shape[:2]}, but was announced as {tuple(self.shapes[number].tolist())}")
            target[begins[number] : begins[number] + image.shape[0] * image.shape[1]] = image.reshape(-1, 3)

    def to(self, device: torch.device) -> Packed:
        """The same on a device."""
        return Packed(self.pixels.to(device, non_blocking=True), self.shapes.to(device, non_blocking=True))

    def _begins(self) -> torch.Tensor:
        """Number of each image's first pixel, int64 (B,)."""
        areas = self.shapes.prod(dim=1)
        return areas.cumsum(0) - areas


def render_torch(images: Packed, views: Views, size: int) -> torch.Tensor:
    """Render one view of each image of a batch.

    Against OpenCV, whose warp works with rounded weights (and before version 4.11 with positions
    rounded to 1/32 pixel), values differ by a grey level here and there; where neighbouring pixels
    differ by more than a hundred levels, or where a value sits on the solarisation threshold, by more.

    Args:
        images: B images.
        views: B sampled views.
        size: side S of a view in pixels.

    Returns:
        uint8 (B, S, S, 3) on the device of the images.
    """
    device, factors = images.pixels.device, block_factors(views.affine)
    begins = images._begins()
    warped = torch.empty(len(views), size, size, 3, device=device)
    for factor in np.unique(factors).tolist():
        rows = np.flatnonzero(factors == factor)
        index = torch.from_numpy(rows).to(device)
        affine = torch.from_numpy(on_blocks(views.affine[rows], factor) if factor > 1 else views.affine[rows]).to(device)
        warped[index] = _warp(images.pixels, begins[index], images.shapes[index], affine, factor, size)
    colour = torch.from_numpy(views.colour).to(device)
    mixed = torch.einsum("brc,byxc->byxr", colour[:, :, :3], warped) + 255 * colour[:, None, None, :, 3]
    result = _blur(_to_levels(mixed), views.blur)
    threshold = torch.from_numpy(views.solarize).to(device).view(-1, 1, 1, 1)
    result = torch.where((result >= 255 * threshold) & (threshold <= 1), 255 - result, result)
    return result.to(torch.uint8).contiguous()


def _warp(pixels: torch.Tensor, begins: torch.Tensor, shapes: torch.Tensor, affine: torch.Tensor, factor: int, size: int) -> torch.Tensor:
    """Bilinear warp, with a mirrored border, of images averaged over factor×factor blocks: float (B, S, S, 3) levels."""
    steps = torch.arange(size, device=pixels.device, dtype=torch.float32)
    position = affine[:, None, None, :, 0] * steps[None, None, :, None] + affine[:, None, None, :, 1] * steps[None, :, None, None]
    position = position + affine[:, None, None, :, 2]
    corner = position.floor()
    part = position - corner
    across, down = part[..., :1], part[..., 1:]
    left, top = corner.long().unbind(-1)
    rows = [_mirrored(top + step, shapes[:, 0] // factor) for step in (0, 1)]
    columns = [_mirrored(left + step, shapes[:, 1] // factor) for step in (0, 1)]
    upper, lower = (
        _block(pixels, begins, shapes, row, columns[0], factor) * (1 - across)
        + _block(pixels, begins, shapes, row, columns[1], factor) * across
        for row in rows
    )
    return _to_levels(upper * (1 - down) + lower * down)


def _mirrored(index: torch.Tensor, extent: torch.Tensor) -> torch.Tensor:
    """Places (B, S, S) inside images of these extents (B,), at least one, mirrored about the outermost pixels."""
    last = (extent.clamp(min=1) - 1).view(-1, 1, 1)
    inside = index.abs().remainder((2 * last).clamp(min=1))
    return torch.where(last == 0, 0, torch.minimum(inside, 2 * last - inside))


def _block(
    pixels: torch.Tensor, begins: torch.Tensor, shapes: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, factor: int
) -> torch.Tensor:
    """Levels of the blocks in these rows and columns (B, S, S), rounded as pixels are; an incomplete one is averaged as it is."""
    heights, widths = (extent.view(-1, 1, 1) for extent in shapes.unbind(1))
    total = torch.zeros(*rows.shape, 3, device=pixels.device)
    for down in range(factor):
        for across in range(factor):
            inside = (down < heights) & (across < widths)
            place = (rows * factor + down).minimum(heights - 1) * widths + (columns * factor + across).minimum(widths - 1)
            total += pixels[place + begins.view(-1, 1, 1)].float() * inside.unsqueeze(-1)
    area = heights.clamp(max=factor) * widths.clamp(max=factor)
    return total if factor == 1 else _to_levels(total / area.unsqueeze(-1))


def _blur(images: torch.Tensor, sigmas: NDArray[np.float32]) -> torch.Tensor:
    """Gaussian blur of the rows of (B, S, S, 3) whose sigma is above 0, with the kernels OpenCV uses, all rows at once."""
    rows = np.flatnonzero(sigmas > 0)
    if not len(rows):
        return images
    size = images.shape[1]
    reaches = [blur_reach(float(sigma), size) for sigma in sigmas[rows]]
    most = max(reaches)
    offsets = torch.arange(-most, most + 1, device=images.device, dtype=torch.float32)
    sigma = torch.from_numpy(sigmas[rows]).to(images.device).unsqueeze(1)
    within = offsets.abs() <= torch.tensor(reaches, device=images.device).unsqueeze(1)
    kernels = torch.exp(-offsets.square() / (2 * sigma.square())) * within  # of the longest reach; shorter ones end in zeros
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).repeat_interleave(3, dim=0)
    index = torch.from_numpy(rows).to(images.device)
    planes = images[index].permute(0, 3, 1, 2).reshape(1, -1, size, size)
    planes = F.pad(planes, (most, most, most, most), mode="reflect") if size > 1 else F.pad(planes, (most,) * 4, mode="replicate")
    along = F.conv2d(planes, kernels[:, None, None, :], groups=len(kernels))
    blurred = F.conv2d(along, kernels[:, None, :, None], groups=len(kernels))
    images[index] = _to_levels(blurred).view(-1, 3, size, size).permute(0, 2, 3, 1)
    return images


def _to_levels(images: torch.Tensor) -> torch.Tensor:
    """Round to the 256 levels of uint8, still as float."""
    return images.round().clamp_(0, 255)
