"""How many images a network sees at a time: as many as pay, and only if an image's bits do not depend on its place.

A fixed shape alone is not enough: the matrix product of a fully connected layer was seen to round the odd
rows of a batch differently from the even ones, by their alignment in memory. So every run first tries
the same images at other places of the batch, and a network whose bits change is run on one image at a time.
What is tried depends on the model alone, so `evaluate` and `predict` decide alike.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.float32]

# Measured on CPUs: batches pay up to about 128 px (2 to 3 times as fast at 64 px), not at 224 px, and not for large networks.
_CPU_BATCH, _CPU_PIXELS = 16, 8 * 128 * 128
_GPU_BATCH, _GPU_PIXELS = 64, 64 * 256 * 256
_CPU_LARGE = 40_000_000
_TRIED = 16


def batch_size(image_size: int, parameters: int, device: str) -> int:
    """Choose images per batch by the model and the device alone, so that every verb chooses alike.

    Args:
        image_size: Side of the network's square in pixels.
        parameters: Number of weights of the network.
        device: `cpu` or `cuda`.

    Returns:
        A power of two; 1 where a batch would not be faster.
    """
    if device != "cuda" and parameters > _CPU_LARGE:
        return 1
    most, pixels = (_GPU_BATCH, _GPU_PIXELS) if device == "cuda" else (_CPU_BATCH, _CPU_PIXELS)
    fitting = max(1, min(most, pixels // image_size**2))
    return 1 << (fitting.bit_length() - 1) if device == "cuda" or fitting >= 8 else 1


def place_is_free(answer: Callable[[Images], Numbers], side: int, size: int) -> bool:
    """Whether images keep the bits of their answers when they move by 1, 2, 4, ... places: tried with fixed images.

    Args:
        answer: uint8 (B, S, S, 3) to float32 (B, ...), what the network says of each image.
        side: S in pixels.
        size: B.
    """
    shifts = [1 << power for power in range(size.bit_length()) if 1 << power < size]
    images = trial_images(max(size, _TRIED) if shifts else 0, side)
    for start in range(0, len(images), size):
        tried = np.resize(images[start : start + size], (size, side, side, 3))
        expected = answer(tried)
        for by in shifts:
            if not np.array_equal(answer(np.roll(tried, by, axis=0)), np.roll(expected, by, axis=0)):
                return False
    return True


def trial_images(count: int, side: int) -> Images:
    """Fixed images uint8 (count, side, side, 3) from smooth to noisy, dark to light, so that a network answers them differently."""
    import cv2

    draw = np.random.default_rng(0)
    images = np.empty((count, side, side, 3), dtype=np.uint8)
    for place in range(count):
        cells = (2, 3, 5, 9)[place % 4]
        smooth = cv2.resize(draw.uniform(-70, 70, (cells, cells, 3)), (side, side), interpolation=cv2.INTER_LINEAR)
        noise = draw.normal(0, 4 * (place % 5), (side, side, 3))
        images[place] = np.clip(draw.uniform(60, 200) + smooth + noise, 0, 255).astype(np.uint8)
    return images
