"""Rendering of sampled views, with OpenCV on a CPU thread or with torch on any device.

Both take the same numbers (`augment.Views`) and agree to rounding. Per view there is one bilinear
warp and one colour matrix on uint8 pixels; no float image is made. Beyond its border an image is
mirrored about its outermost pixels (reflect 101), so a rotated view never shows a blank corner that
could give a label away. Where a view is more than twice smaller than its crop, the image is first
averaged over k×k blocks, k being the whole part of that ratio, so that fine texture does not alias.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from isograft.data.augment import Views

    Pixels = NDArray[np.uint8]

_WARP = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
_IDENTITY = np.eye(3, 4, dtype=np.float32)


class _Scratch(threading.local):
    """Buffers of one thread, kept between views so that nothing is allocated per view."""

    def __init__(self) -> None:
        self.source = np.empty(0, np.uint8)
        self.warped = np.empty((0, 0, 4), np.uint8)


_scratch = _Scratch()


def one_thread_per_call() -> None:
    """Tell OpenCV not to split single calls over threads of its own: we run whole images side by side."""
    cv2.setNumThreads(1)


def padded(image: Pixels, buffer: Pixels | None = None) -> Pixels:
    """Copy uint8 (h, w, 3) to (h, w, 4): OpenCV warps four channels 2.5 times faster than three (version 5)."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2RGBA, dst=buffer), np.uint8)


def block_factors(affine: NDArray[np.float32]) -> NDArray[np.int64]:
    """Side k of the blocks averaged before a warp: the whole part of its zoom-out, at least 1. Shape (B,)."""
    zoom = np.sqrt(np.abs(affine[:, 0, 0] * affine[:, 1, 1] - affine[:, 0, 1] * affine[:, 1, 0]).astype(np.float64))
    return np.maximum(1, np.floor(zoom + 1e-4)).astype(np.int64)


def on_blocks(affine: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """The same affine for an image averaged over factor×factor blocks. Shape (..., 2, 3)."""
    scaled = affine / np.float32(factor)
    scaled[..., 2] += np.float32((1 / factor - 1) / 2)
    return scaled


def render_opencv(images: Sequence[Pixels], views: Views, size: int, out: Pixels, start: int, stop: int) -> None:
    """Render views start to stop, one per image, into the same rows of `out`.

    OpenCV works outside the interpreter lock, so threads rendering different rows run side by side.

    Args:
        images: B images, uint8 (h, w, 3) RGB of any sizes; or (h, w, 4) as `padded` returns them, which
            saves a copy when several views are made of one image.
        views: B sampled views.
        size: side S of a view in pixels.
        out: uint8 (B, S, S, 3), contiguous rows.
        start: first row.
        stop: row after the last.

    Raises:
        ValueError: `out` is not as described.
    """
    if out.dtype != np.uint8 or out.shape[1:] != (size, size, 3) or not out[:1].flags.c_contiguous:
        raise ValueError(f"out is {out.dtype} {out.shape}, and must be uint8 (B, {size}, {size}, 3) with contiguous rows")
    scratch = _scratch
    if scratch.warped.shape[0] != size:
        scratch.warped = np.empty((size, size, 4), np.uint8)
    part = slice(start, stop)
    factors = block_factors(views.affine[part]).tolist()
    coloured = (views.colour[part] != _IDENTITY).any(axis=(1, 2)).tolist()
    finished = ((views.blur[part] > 0) | (views.solarize[part] <= 1)).tolist()
    colours = views.colour[part] * np.array([1, 1, 1, 255], np.float32)
    for row, factor, colour, has_colour, has_finish in zip(range(start, stop), factors, colours, coloured, finished, strict=True):
        target, image, affine = out[row], images[row], views.affine[row]
        if image.shape[2] == 3:
            image = _pad_in_scratch(image)
        if factor > 1:
            image, affine = _blocks(image, factor), on_blocks(affine, factor)
        cv2.warpAffine(image, affine, (size, size), dst=scratch.warped, flags=_WARP, borderMode=cv2.BORDER_REFLECT_101)
        cv2.cvtColor(scratch.warped, cv2.COLOR_RGBA2RGB, dst=target)
        if has_colour:
            cv2.transform(target, colour, dst=target)
        if has_finish:
            _blur_and_solarize(target, float(views.blur[row]), float(views.solarize[row]))


def _pad_in_scratch(image: Pixels) -> Pixels:
    height, width = image.shape[:2]
    needed = height * width * 4
    if _scratch.source.size < needed:
        _scratch.source = np.empty(needed, np.uint8)
    return padded(image, _scratch.source[:needed].reshape(height, width, 4))


def _blocks(image: Pixels, factor: int) -> Pixels:
    """Averages over factor×factor blocks; an incomplete block at the far edges is left out."""
    height, width = (max(1, extent // factor) for extent in image.shape[:2])
    whole = image[: height * factor, : width * factor]
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _blur_and_solarize(target: Pixels, sigma: float, threshold: float) -> None:
    if sigma > 0:
        reach = blur_reach(sigma, target.shape[0])
        cv2.GaussianBlur(target, (2 * reach + 1, 2 * reach + 1), sigma, dst=target, borderType=cv2.BORDER_REFLECT_101)
    if threshold <= 1:
        levels = np.arange(256)
        cv2.LUT(target, np.where(levels >= threshold * 255, 255 - levels, levels).astype(np.uint8), dst=target)


def blur_reach(sigma: float, size: int) -> int:
    """Pixels on either side that a blur takes in: three standard deviations, inside the view."""
    return max(1, min(math.ceil(3 * sigma), (size - 1) // 2))
