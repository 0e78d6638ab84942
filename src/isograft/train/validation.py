"""The images that choose when to stop: a split of the labeled data, or data of their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isograft.data.cache import ImageCache
from isograft.data.manifest import Manifest
from isograft.data.preprocess import Preprocess
from isograft.errors import IsograftError
from isograft.lineage import leaks, seen_rows
from isograft.settings import FinetuneSettings
from isograft.train.partition import Partition
from isograft.train.prepare import Opening, open_everywhere


@dataclass(frozen=True)
class Validation:
    """Images nothing is fitted to but the number of steps.

    Attributes:
        images: Working-size images.
        rows: int64 (N,), which of them.
        targets: int64 (N,) class numbers.
        manifest: Their N rows.
        given: Whether they were given as `--val`, not split from the labeled data.
    """

    images: ImageCache
    rows: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    manifest: Manifest
    given: bool


def open_validation(
    opening: Opening[FinetuneSettings], rows: Partition, images: ImageCache, targets: npt.NDArray[np.int64], preprocess: Preprocess
) -> Validation | None:
    """Return the validation images, or None when there are none.

    Args:
        opening: The opened run.
        rows: Who does what in the labeled data.
        images: The labeled data's images.
        targets: int64 (N,) class number of each of them.
        preprocess: The one preprocessing.

    Raises:
        IsograftError: `--val` holds an unknown class, or images or patients that are trained on.
    """
    settings = opening.settings
    if settings.val is None:
        return Validation(images, rows.val, targets[rows.val], rows.manifest.take(rows.val), given=False) if len(rows.val) else None
    manifest = open_everywhere(settings.val, settings)
    classes = opening.manifest.classes()
    unknown = sorted(set(manifest.classes()) - set(classes))
    if unknown:
        raise IsograftError(
            f"--val {settings.val} holds class '{unknown[0]}', which {settings.data} does not; the classes are {', '.join(classes)}"
        )
    shared = leaks(seen_rows(rows.manifest, "train", settings.data), manifest)
    if len(shared):
        raise IsograftError(
            f"{len(shared)} images of --val {settings.val} (or their patients) are in {settings.data} too, such as {shared['uri'][0]}; "
            "validation needs images of its own"
        )
    return Validation(opening.cached(manifest, preprocess), np.arange(len(manifest)), manifest.class_numbers(classes), manifest, given=True)
