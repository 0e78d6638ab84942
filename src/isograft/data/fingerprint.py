"""What the pool looks like, measured before anything is planned: size, colour, and whether orientation carries meaning.

The two symmetry probes replace a guess about the domain: if a linear classifier on 12 x 12 grey thumbnails cannot tell how an image was
turned (or mirrored), then turning (or mirroring) it makes a view that could as well have been taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

Image = npt.NDArray[np.uint8]

SAMPLE = 600
THUMBNAIL = 12
FEWEST = 30  # images a symmetry probe needs
ROTATION_TELLS = 0.65  # of 4 turns; chance is 0.25. Dermoscopy 0.5 (lamp on one side), nuclei 0.24, upright digits 0.84.
MIRROR_TELLS = 0.70  # of 2; chance is 0.5. Dermoscopy 0.58, nuclei 0.49, digits 0.82.
GREY_CHROMA = 3.0  # mean absolute difference between colour channels, in grey levels


class Fingerprint(BaseModel):
    """Measured properties of a set of images.

    Attributes:
        images: Number of images.
        short_side: Median short side of the originals in pixels.
        grey: Whether the images hold no colour.
        rotation_accuracy: Cross-validated accuracy of telling 0, 90, 180 and 270 degree turns apart; chance is 0.25. None under 30 images.
        mirror_accuracy: Cross-validated accuracy of telling an image from its mirror image; chance is 0.5. None under 30 images.
    """

    model_config = ConfigDict(frozen=True)

    images: int
    short_side: int
    grey: bool
    rotation_accuracy: float | None
    mirror_accuracy: float | None

    @property
    def any_rotation(self) -> bool:
        """Whether turned images were found to look like images of this domain; unmeasured, orientation is taken to matter."""
        return self.rotation_accuracy is not None and self.rotation_accuracy < ROTATION_TELLS

    @property
    def any_mirror(self) -> bool:
        """Whether mirrored images were found to look like images of this domain; unmeasured, the side is taken to matter."""
        return self.mirror_accuracy is not None and self.mirror_accuracy < MIRROR_TELLS


def fingerprint(images: Sequence[Image], short_sides: npt.NDArray[np.int64], seed: int = 0) -> Fingerprint:
    """Measure a set of images on a sample of at most 600.

    Args:
        images: uint8 RGB arrays (h, w, 3) at any size.
        short_sides: (N,) short sides of the originals in pixels.
        seed: Seed of the sample.
    """
    chosen = np.random.default_rng(seed).permutation(len(images))[:SAMPLE]
    thumbnails, chroma = [], []
    for row in np.sort(chosen):
        thumbnail, colour = _thumbnail(images[int(row)])
        thumbnails.append(thumbnail)
        chroma.append(colour)
    stack = np.stack(thumbnails)
    turns = np.concatenate([np.rot90(stack, turn, axes=(1, 2)) for turn in range(4)])
    mirrors = np.concatenate([stack, stack[:, :, ::-1]])
    return Fingerprint(
        images=len(images),
        short_side=int(np.median(short_sides)),
        grey=bool(np.mean(chroma) < GREY_CHROMA),
        rotation_accuracy=_tell_apart(turns, 4),
        mirror_accuracy=_tell_apart(mirrors, 2),
    )


def _thumbnail(image: Image) -> tuple[npt.NDArray[np.float32], float]:
    """Return the standardised grey thumbnail of the central square, and the mean chroma in grey levels."""
    import cv2

    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(image[top : top + side, left : left + side])
    small = cv2.resize(square, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float32)
    grey = small.mean(axis=2)
    chroma = float((small.max(axis=2) - small.min(axis=2)).mean())
    return (grey - grey.mean()) / (grey.std() + 1e-3), chroma


def _tell_apart(variants: npt.NDArray[np.float32], classes: int) -> float | None:
    """Cross-validated accuracy of a linear classifier, None for too few images; variants of one image stay in one fold."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_score

    count = len(variants) // classes
    if count < FEWEST:
        return None
    features: Any = variants.reshape(len(variants), -1)
    labels = np.repeat(np.arange(classes), count)
    images = np.tile(np.arange(count), classes)
    model = LogisticRegression(C=0.01, max_iter=200)
    return round(float(cross_val_score(model, features, labels, groups=images, cv=GroupKFold(3)).mean()), 3)
