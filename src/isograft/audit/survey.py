"""One look at every image of a data set: a small grey picture of it, how bright it is, and what the shortcut probes may know."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isograft import console
from isograft.data.address import Address
from isograft.data.containers import read_unchanged
from isograft.data.crops import SIDE, picture
from isograft.data.decode import quiet_opencv
from isograft.data.manifest import Manifest
from isograft.data.readers import ReadError, to_rgb8
from isograft.data.shortcuts import FILE, file_facts, measure
from isograft.errors import Unreachable

_CHUNK = 16
_LARGEST = 1 << 40


@dataclass(frozen=True)
class Survey:
    """The readable images of a data set, as they are now.

    Attributes:
        name: What messages call the data set.
        everything: All its rows, unusable ones too.
        manifest: N usable rows.
        uris: (N,) what outputs call the images: no absolute path, no signed URL.
        pictures: uint8 (N, 64, 64), grey.
        brightness: float32 (N,), mean grey value in [0, 255].
        contrast: float32 (N,), standard deviation of the grey value.
        changed: Sentences about images that can no longer be read or are no longer those of the manifest.
        features: float32 (N, D) by shortcut probe; empty where no image has a label.
    """

    name: str
    everything: Manifest
    manifest: Manifest
    uris: pl.Series
    pictures: NDArray[np.uint8]
    brightness: NDArray[np.float32]
    contrast: NDArray[np.float32]
    changed: list[str]
    features: dict[str, NDArray[np.float32]]


class _Seen(NamedTuple):
    picture: NDArray[np.uint8]
    features: dict[str, NDArray[np.float32]]
    problem: str | None


def survey(name: str, everything: Manifest, threads: int) -> Survey:
    """Decode every usable image of a data set once.

    Args:
        name: What messages call the data set.
        everything: Its manifest.
        threads: Decoding threads.
    """
    manifest = everything.usable()
    places = manifest.addresses()
    sizes = manifest.frame.select("width", "height", "channels", "bits").rows()
    probed = bool(manifest.classes())
    features: dict[str, list[NDArray[np.float32]]] = {}
    pictures = np.zeros((len(manifest), SIDE, SIDE), np.uint8)
    problems: dict[int, str] = {}
    chunks = [range(begin, min(begin + _CHUNK, len(places))) for begin in range(0, len(places), _CHUNK)]
    with quiet_opencv(), ThreadPoolExecutor(threads) as pool, console.Progress(len(places), f"Looking at {name}") as progress:
        looked = pool.map(lambda rows: [_look(places[row], sizes[row], probed) for row in rows], chunks)
        for rows, several in zip(chunks, looked, strict=True):
            for row, seen in zip(rows, several, strict=True):
                pictures[row] = seen.picture
                for probe, values in seen.features.items():
                    features.setdefault(probe, []).append(values)
                if seen.problem:
                    problems[row] = seen.problem
            progress.advance(len(rows))
    kept = np.array([row not in problems for row in range(len(manifest))], dtype=bool)
    flat = pictures[kept].reshape(-1, SIDE**2)
    # Sums of integers are exact, so that no figure depends on the order of additions.
    mean = flat.sum(axis=1, dtype=np.int64) / SIDE**2
    squares = np.einsum("ij,ij->i", flat, flat, dtype=np.int64) / SIDE**2
    contrast = np.sqrt(np.maximum(squares - mean**2, 0))
    return Survey(
        name,
        everything,
        manifest.select(kept),
        manifest.portable()[0]["uri"].filter(pl.Series(kept, dtype=pl.Boolean)),
        pictures[kept],
        mean.astype(np.float32),
        contrast.astype(np.float32),
        [*problems.values()],
        {probe: np.stack(values) for probe, values in features.items()},
    )


def listed(names: Sequence[str], most: int = 5) -> str:
    """Names for a sentence: the first few, and how many more."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _look(place: Address, size: tuple[int, int, int, int], probed: bool) -> _Seen:
    blank = np.zeros((SIDE, SIDE), np.uint8)
    try:
        decoded, _ = read_unchanged(place, _LARGEST)
    except ReadError as error:
        if error.status == "changed":
            return _Seen(blank, {}, f"{place.name} is no longer the image it was when it was ingested")
        return _Seen(blank, {}, f"{place.name} cannot be read any more: {error.reason}")
    except Unreachable as error:
        if not error.gone:
            raise
        return _Seen(blank, {}, f"{place.name} is no longer there: {error.reason}")
    image = to_rgb8(decoded.array)
    features = measure(image) | {FILE: file_facts(place, *size)} if probed else {}
    return _Seen(picture(image), features, None)
