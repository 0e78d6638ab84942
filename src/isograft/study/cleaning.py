"""Keeps a task's test images out of what is trained on before it: the same pixels, near-duplicates, and the same patients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from isograft.data.duplicates import copies_of
from isograft.data.manifest import Manifest

CHEAP_SHARE = 0.05

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Cleaned:
    """Images that may be trained on.

    Attributes:
        manifest: They.
        removed: How many were removed.
        own: Whether they serve one repeat of one task only.
    """

    manifest: Manifest
    removed: int
    own: bool = False


def overlap(images: Manifest, tested: Manifest, grouped: bool = True) -> Mask:
    """Which images share pixels, look or group with a tested one: bool (N,).

    Two data sets may name one patient differently. So where an image of the pool is the copy of a tested one, the whole group that the
    pool itself puts it into is meant.

    Args:
        images: N images that would be trained on.
        tested: M images of a test.
        grouped: Whether groups count; not where a protocol splits image by image.
    """
    same = np.isin(_column(images, "pixel_hash"), _column(tested, "pixel_hash"))
    found: Mask = same | (copies_of(images.frame, tested.frame) >= 0)
    if grouped:
        owners = images.frame["group"]
        groups = {*tested.frame["group"], *owners.filter(pl.Series(found))} - {None}
        found = found | np.array([group in groups for group in owners], dtype=bool)
    return found


def cleaned(images: Manifest, everything: Mask, tested: Manifest, grouped: bool = True) -> Cleaned:
    """Remove what overlaps with a task.

    Where it costs little, everything that overlaps with any image of the task is removed, whatever is tested in this repeat: then one
    training serves all repeats. Otherwise the test images of the repeat decide.

    Args:
        images: N images that would be trained on.
        everything: bool (N,), which of them overlap with any image of the tasks that this training may serve.
        tested: The test images of this repeat.
        grouped: As in `overlap`.
    """
    if everything.mean() <= CHEAP_SHARE:
        return Cleaned(images.select(~everything), int(everything.sum()))
    found = overlap(images, tested, grouped)
    return Cleaned(images.select(~found), int(found.sum()), own=True)


def _column(manifest: Manifest, name: str) -> npt.NDArray[np.str_]:
    return np.array(manifest.frame[name].to_list(), dtype=str)
