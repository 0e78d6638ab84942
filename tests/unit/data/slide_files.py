"""Small slides: pyramids in TIFF, made on the spot."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import tifffile


def tissue(side: int = 2048, seed: int = 0) -> np.ndarray:
    """White glass, uint8 (side, side, 3) RGB: stained in the left half, from a quarter of the height on."""
    draw = np.random.default_rng(seed)
    image = np.full((side, side, 3), 244, np.uint8)
    coarse = draw.integers(0, 90, (side // 32, side // 64, 3), dtype=np.uint8)
    stain = cv2.resize(coarse, (side // 2, side), interpolation=cv2.INTER_CUBIC)
    image[side // 4 :, : side // 2] = np.clip(np.array([200, 110, 170]) - stain[side // 4 :] // 2 + 20, 0, 255).astype(np.uint8)
    return image


def write_slide(path: Path, image: np.ndarray, microns: float | None = 0.25, levels: int = 3) -> Path:
    """A tiled pyramid, each level half the one before; its resolution in the tags where one is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {} if microns is None else {"resolution": (1e4 / microns, 1e4 / microns), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as writer:
        for level in range(levels):
            side = (image.shape[1] >> level, image.shape[0] >> level)
            scaled = image if level == 0 else cv2.resize(image, side, interpolation=cv2.INTER_AREA)
            writer.write(scaled, tile=(256, 256), photometric="rgb", subfiletype=int(level > 0), **(options if level == 0 else {}))
    return path
