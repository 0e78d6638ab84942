"""Where a slide shows tissue: a mask from a small picture of it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

_LEAST_SATURATION = 15
_SMOOTHING = 7


def tissue_mask(overview: NDArray[np.uint8]) -> Mask:
    """Which pixels of an overview show tissue: uint8 (H, W, 3) RGB to bool (H, W).

    Stained tissue is coloured, glass is grey: the saturation (HSV), smoothed by a median of 7 px, must reach Otsu's threshold (IEEE
    Trans. SMC 1979), and at least 15 of 255, so that an empty slide does not fall apart into noise above and below its own mean.
    Ink of a pen is coloured too and is taken for tissue.
    """
    saturation = cv2.cvtColor(overview, cv2.COLOR_RGB2HSV)[..., 1]
    smooth = cv2.medianBlur(saturation, _SMOOTHING)
    threshold, _ = cv2.threshold(smooth, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    mask: Mask = smooth > max(threshold, _LEAST_SATURATION)
    return mask


def shares(mask: Mask, left: NDArray[np.float64], top: NDArray[np.float64], side: float) -> NDArray[np.float64]:
    """The share of tissue in squares of an overview: float64 (N,) in [0, 1].

    Args:
        mask: bool (H, W).
        left: (N,) left edges in pixels of the mask.
        top: (N,) top edges.
        side: Their side; squares are taken at whole pixels and cover at least one.
    """
    total = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
    total[1:, 1:] = mask.cumsum(axis=0).cumsum(axis=1)
    x0, y0 = (np.clip(np.floor(edge).astype(np.int64), 0, most - 1) for edge, most in ((left, mask.shape[1]), (top, mask.shape[0])))
    x1 = np.clip(np.ceil(left + side).astype(np.int64), x0 + 1, mask.shape[1])
    y1 = np.clip(np.ceil(top + side).astype(np.int64), y0 + 1, mask.shape[0])
    inside = total[y1, x1] - total[y0, x1] - total[y1, x0] + total[y0, x0]
    result: NDArray[np.float64] = inside / ((x1 - x0) * (y1 - y0))
    return result
