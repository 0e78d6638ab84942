"""The one preprocessing: how an image becomes what the network sees.

Training, validation, `evaluate`, `predict` and export all use this object, and it travels in the
passport of a model. From file to network the steps are always the same:
`read_image` → `to_rgb8` → `working` → `fit` → `normalise`. Each looks at one image only, so an
image's numbers never depend on its neighbours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# A panorama is squashed to this ratio, so that no single image can fill the cache.
LONGEST_ASPECT = 2


class Preprocess(BaseModel):
    """Image to network input, deterministic and per image.

    Attributes:
        image_size: side S of the square the network sees, in pixels.
        working_size: short side at which images are cached; views are cut from this size.
        mean: per-channel mean on [0, 1] RGB.
        std: per-channel standard deviation on [0, 1] RGB.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int = Field(ge=1)
    working_size: int = Field(ge=1)
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def working_shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that `working` gives an image of this height and width, in pixels."""
        scale = self.working_size / min(height, width)
        longest = LONGEST_ASPECT * self.working_size
        return (min(longest, max(1, round(height * scale))), min(longest, max(1, round(width * scale))))

    def working(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Scale to the working size, keeping the aspect up to 2:1.

        Args:
            image: uint8 (H, W, 3) RGB of any size.

        Returns:
            uint8 (h, w, 3), short side `working_size`, long side at most twice that; area average
            when shrinking, bilinear when enlarging. The input itself when nothing changes.
        """
        return _resize(image, *self.working_shape(*image.shape[:2]))

    def fit(self, working: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Stretch the whole field of view to the square: uint8 (h, w, 3) to uint8 (S, S, 3).

        Nothing is cut off: a lesion at the edge stays visible. Area average when shrinking.
        """
        return _resize(working, self.image_size, self.image_size)

    def square(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What the network sees of an image: uint8 (H, W, 3) RGB of any size to contiguous uint8 (S, S, 3), by `working`, then `fit`."""
        return np.ascontiguousarray(self.fit(self.working(image)))

    def normalise(self, batch: torch.Tensor) -> torch.Tensor:
        """Turn uint8 (B, S, S, 3) pixels into float32 (B, 3, S, S): (x / 255 - mean) / std.

        The result keeps the memory layout of the pixels, which torch calls channels_last.
        """
        import torch

        std = torch.tensor(self.std, dtype=torch.float64)
        scale = (1 / (255 * std)).to(batch.device, torch.float32).view(1, 3, 1, 1)
        shift = (-torch.tensor(self.mean, dtype=torch.float64) / std).to(batch.device, torch.float32).view(1, 3, 1, 1)
        return batch.permute(0, 3, 1, 2).to(torch.float32).mul_(scale).add_(shift)


def _resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Area average when the image shrinks, bilinear when it grows; the input itself when neither."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = height * width < image.shape[0] * image.shape[1]
    resized: NDArray[np.uint8] = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return resized
