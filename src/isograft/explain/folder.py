"""The files of heatmaps: a picture and an array per image, under names that are safe and never meet."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from isograft.data.address import Address
from isograft.data.containers import read_unchanged
from isograft.data.readers import ReadError, to_rgb8
from isograft.errors import Unreachable
from isograft.explain.explainer import Explainer
from isograft.explain.heatmap import Heatmap
from isograft.explain.pictures import Image, Shown, sheet, show
from isograft.inference import MAX_PIXELS
from isograft.run import write_atomic

_LONGEST = 60


@dataclass(frozen=True)
class Written:
    """What was made of one image.

    Attributes:
        heatmap: The map.
        shown: What it looks like, or None when that was let go of.
        picture: Name of the PNG in the folder.
        array: Name of the file with the values in the folder: float32 (S, S), for `numpy.load(..., allow_pickle=False)`.
    """

    heatmap: Heatmap
    shown: Shown | None
    picture: str
    array: str

    def without_pictures(self) -> Written:
        """The same with an empty map and nothing to look at, so that the memory of many images stays small."""
        return replace(self, heatmap=replace(self.heatmap, values=np.empty((0, 0), np.float32)), shown=None)


class HeatmapFolder:
    """Explains images one after the other into a folder, for `explain` and for `predict --heatmaps`.

    Args:
        folder: Where the files go; it is made when it is not there.
        explainer: Of the model.
        classes: K class names.
        total: Images there are at most, so that names sort as the rows do.
    """

    def __init__(self, folder: Path, explainer: Explainer, classes: Sequence[str], total: int) -> None:
        self.folder = folder
        self.explainer = explainer
        self._classes = classes
        self._digits = max(4, len(str(total)))

    def add(
        self, row: int, uri: str, place: Address, pixels: Image, probabilities: npt.NDArray[np.float64], target: int | None = None
    ) -> Written:
        """Explain one image and write its two files.

        Args:
            row: Its place among all inputs, from 0; no two images may share it.
            uri: What the table calls it.
            place: Where it lies, to show it in its own shape.
            pixels: uint8 (S, S, 3) RGB, as the network sees it.
            probabilities: float64 (K,) as `predict` gives them.
            target: The class to explain; None for the most probable.
        """
        answer = int(probabilities.argmax())
        chosen = answer if target is None else target
        heatmap = self.explainer.explain(pixels, chosen)
        shown = show(_original(place, pixels, self.explainer), heatmap)
        stem = f"{row + 1:0{self._digits}d}-{safe_name(uri)}"
        told = f"{self._classes[chosen]}: probability {probabilities[chosen]:.3f}"
        title = told if chosen == answer else f"{told}; predicted {self._classes[answer]}"
        write_atomic(self.folder / f"{stem}.png", sheet(shown, heatmap, title))
        write_atomic(self.folder / f"{stem}.npy", array_bytes(heatmap.values))
        return Written(heatmap, shown, f"{stem}.png", f"{stem}.npy")


def safe_name(uri: str) -> str:
    """Letters, digits, points, dashes and lines of a uri's last part without its ending, at most 60; never empty, never only points."""
    path, _, part = uri.partition("#")
    last = path.rstrip("/").rpartition("/")[2]
    last = re.sub(r"\.[A-Za-z]{3,5}$", "", last)
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", f"{last}_{part}" if part else last)[:_LONGEST].strip("._-")
    return plain or "image"


def array_bytes(values: npt.NDArray[np.float32]) -> bytes:
    """An array as the bytes of a .npy file without pickle."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(values, dtype="<f4"), allow_pickle=False)
    return buffer.getvalue()


def _original(place: Address, pixels: Image, explainer: Explainer) -> Image:
    """The image in its own shape (up to 2:1, as the network's square covers it), or the square when it has changed or is gone."""
    try:
        return np.asarray(explainer.preprocess.working(to_rgb8(read_unchanged(place, MAX_PIXELS)[0].array)), dtype=np.uint8)
    except (ReadError, Unreachable):
        return pixels
