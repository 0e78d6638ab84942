"""Copies with a strip cut off one or more edges, found from small grey pictures of the images and confirmed on their pixels.

A cropped copy shows a window of the original. So every image is hashed through 49 windows (100, 95 and 90 % of each side, at either
end and in the middle), and the hashes are searched for among the plain ones: an exact search at any size of the crop would cost more
and find the same. Candidates are then aligned: the window's edges are moved to where the normalised correlation of the two pictures
is largest, over all eight orientations, first on the lower frequencies, then on more of them. Frequencies are weighted by
their radius, so that a dark blob in the middle, which lesions share, does not decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from isograft.data.decode import core_count
from isograft.data.neighbours import within

SIDE = 64
"""Side of the grey pictures in pixels."""

CONFIRMED = 0.94
"""Smallest normalised correlation of two pictures that are one.

On 400 HAM10000 images re-encoded, shrunk, turned, brightened or cut by up to 10 %, copies reached 0.96 or more; of their pairs
with images of different lesions one reached more than 0.91, and it was the same photograph."""

MOST_COMPARISONS = 400_000_000
"""Above so many pairs of images the search through windows would take more than minutes and is left out."""

Pictures = NDArray[np.uint8]
Spectra = NDArray[np.float32]
Rows = NDArray[np.int64]
Windows = NDArray[np.float32]

_SPANS = [(0.0, 1.0)] + [(start * (1 - size), start * (1 - size) + size) for size in (0.95, 0.9) for start in (0.0, 0.5, 1.0)]
_WINDOWS: Windows = np.array([(*down, *across) for down, across in product(_SPANS, _SPANS)], np.float32)
_WHOLE: Windows = np.array([[0.0, 1.0]], np.float32)
_BLOCK = 1024


class _Stage(NamedTuple):
    """One round of aligning: how many frequencies count, by which steps the edges move, and the correlation needed to go on."""

    frequencies: int
    steps: tuple[float, ...]
    needed: float


_START = 12
_NEEDED = 0.9
_STAGES = (_Stage(20, (), 0.75), _Stage(20, (0.02,), 0.87), _Stage(28, (0.02, 0.01, 0.005), CONFIRMED))


def picture(image: NDArray[np.uint8]) -> Pictures:
    """The grey picture of an image: uint8 (H, W, 3) RGB to uint8 (64, 64), by way of at most 256 x 256 samples, as a thumbnail is made."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if max(grey.shape) > 4 * SIDE:
        grey = cv2.resize(grey, (4 * SIDE, 4 * SIDE), interpolation=cv2.INTER_LINEAR)
    return cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)  # type: ignore[no-any-return]


def cropped_copies(ones: Pictures, others: Pictures | None = None) -> tuple[Rows, Rows, NDArray[np.float32]]:
    """Pairs of which one shows the other, whole or with up to a tenth of its width and height cut off.

    Args:
        ones: uint8 (N, 64, 64) grey pictures of N images.
        others: uint8 (M, 64, 64); None looks for pairs inside the first, each once, the smaller row first.

    Returns:
        Rows of `ones`, rows of `others`, and their correlation, sorted by rows.
    """
    theirs = ones if others is None else others
    found = [_contained(ones, theirs, within_one=others is None)]
    if others is not None:
        rows, columns, correlation = _contained(others, ones, within_one=False)
        found.append((columns, rows, correlation))
    rows, columns, correlation = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if others is None:
        rows, columns = np.minimum(rows, columns), np.maximum(rows, columns)
    return best_of_pairs(rows, columns, correlation)


def best_of_pairs(rows: Rows, columns: Rows, correlation: NDArray[np.float32]) -> tuple[Rows, Rows, NDArray[np.float32]]:
    """Each pair once, with the largest of its correlations, sorted by rows and columns: three arrays (P,) to three of at most P."""
    order = np.lexsort((-correlation, columns, rows))
    rows, columns, correlation = rows[order], columns[order], correlation[order]
    first = np.ones(len(rows), dtype=bool)
    first[1:] = (np.diff(rows) != 0) | (np.diff(columns) != 0)
    return rows[first], columns[first], correlation[first]


def correlations(ones: Pictures, others: Pictures) -> NDArray[np.float32]:
    """Normalised correlation of N pairs of pictures, aligned as well as can be: float32 (N,); 0 where they are plainly different.

    Args:
        ones: uint8 (N, 64, 64).
        others: uint8 (N, 64, 64), each the same picture as its partner or a part of it.
    """
    return _aligned_all(ones, others, np.arange(len(ones)), np.arange(len(ones)))


def _contained(whole: Pictures, part: Pictures, within_one: bool) -> tuple[Rows, Rows, NDArray[np.float32]]:
    """Pairs of a row of `whole` and a row of `part` that shows a window of it."""
    codes = np.concatenate([np.empty(0, np.int64), *_candidates(whole, part, within_one)])
    rows, columns = np.divmod(np.unique(codes), len(part))
    values = _aligned_all(whole, part, rows, columns)
    kept = values >= CONFIRMED
    return rows[kept], columns[kept], values[kept]


def _candidates(whole: Pictures, part: Pictures, within_one: bool) -> Iterator[NDArray[np.int64]]:
    """Pairs whose hashes are near through some window, as numbers row * len(part) + column; the same pair may come again."""
    plain = _hashes(part, _matrix(_WHOLE, 8))[:, 0]
    windows = _hashes(whole, _matrix(np.array(_SPANS, np.float32), 8))
    for asked, columns, _ in within(windows.reshape(-1), plain):
        rows = asked // len(_WINDOWS)
        apart = rows != columns if within_one else np.ones(len(rows), dtype=bool)
        yield np.unique(rows[apart] * len(part) + columns[apart])


def _aligned_all(whole: Pictures, part: Pictures, rows: Rows, columns: Rows) -> NDArray[np.float32]:
    """Correlation of the pairs of `whole[rows]` and `part[columns]`, block by block on threads: float32 (P,)."""
    result = np.zeros(len(rows), np.float32)
    blocks = [slice(begin, begin + _BLOCK) for begin in range(0, len(rows), _BLOCK)]
    with ThreadPoolExecutor(core_count()) as pool:
        for block, values in zip(blocks, pool.map(lambda block: _aligned(whole, part, rows[block], columns[block]), blocks), strict=True):
            result[block] = values
    return result


def _aligned(whole: Pictures, part: Pictures, rows: Rows, columns: Rows) -> NDArray[np.float32]:
    """Correlation of the pairs of one block, float32 (P,); 0 where a stage gave a pair up."""
    result = np.zeros(len(rows), np.float32)
    values, windows, orientations = _best_start(whole, part, rows, columns)
    alive = np.flatnonzero(values >= _NEEDED)
    windows = windows[alive]
    seen = whole[rows[alive]].astype(np.float32)
    turned = _turned(part[columns[alive]].astype(np.float32), orientations[alive])
    for stage in _STAGES:
        if not len(alive):
            return result
        values, windows = _move(seen, turned, windows, stage)
        kept = values >= stage.needed
        alive, seen, turned, windows, values = alive[kept], seen[kept], turned[kept], windows[kept], values[kept]
    result[alive] = values
    return result


def _best_start(whole: Pictures, part: Pictures, rows: Rows, columns: Rows) -> tuple[NDArray[np.float32], Windows, Rows]:
    """For P pairs the best of 49 windows and eight orientations, by the lowest frequencies: correlation, window, orientation."""
    owners, owner = np.unique(rows, return_inverse=True)
    seen = _spectra(whole[owners].astype(np.float32), _matrix(np.array(_SPANS, np.float32), _START)).reshape(len(owners), len(_WINDOWS), -1)
    owners, asker = np.unique(columns, return_inverse=True)
    plain = _spectra(part[owners].astype(np.float32), _matrix(_WHOLE, _START))[:, 0]
    odd = np.where(np.arange(_START) % 2, np.float32(-1), np.float32(1))
    signs = [odd[:, None] ** (number >> 1 & 1) * odd ** (number & 1) for number in range(8)]
    asked = np.stack([(plain.transpose(0, 2, 1) if number & 4 else plain) * signs[number] for number in range(8)], axis=1)
    asked = asked.reshape(len(owners), 8, -1).transpose(0, 2, 1)
    values, best = np.empty(len(rows), np.float32), np.empty(len(rows), np.int64)
    for begin in range(0, len(rows), 64):  # small enough to stay in the processor's cache
        part_of = slice(begin, begin + 64)
        scores = (seen[owner[part_of]] @ asked[asker[part_of]]).reshape(-1, 8 * len(_WINDOWS))
        best[part_of] = scores.argmax(axis=1)
        values[part_of] = scores.max(axis=1)
    return values, _WINDOWS[best // 8], best % 8


def _move(whole: Spectra, turned: Spectra, windows: Windows, stage: _Stage) -> tuple[NDArray[np.float32], Windows]:
    """Move the four edges of every window, one at a time, to where the correlation is larger."""
    asked = _spectra(turned, _matrix(_WHOLE, stage.frequencies))[:, 0].reshape(len(turned), -1)
    windows = windows.copy()
    values = _correlation(whole, windows, asked, stage.frequencies)
    for step in stage.steps:
        for edge, by in product(range(4), (-step, step)):
            moved = windows.copy()
            moved[:, edge] = np.clip(moved[:, edge] + by, 0, 1)
            tried = _correlation(whole, moved, asked, stage.frequencies)
            better = tried > values
            windows[better], values[better] = moved[better], tried[better]
    return values, windows


def _correlation(whole: Spectra, windows: Windows, asked: Spectra, frequencies: int) -> NDArray[np.float32]:
    """Correlation of each picture through its window with a spectrum: float32 (N,)."""
    down, across = _matrix(windows[:, :2], frequencies), _matrix(windows[:, 2:], frequencies)
    seen = _normalised(down @ whole @ across.transpose(0, 2, 1))
    result: NDArray[np.float32] = np.einsum("nf,nf->n", seen.reshape(len(whole), -1), asked)
    return result


def _spectra(pictures: Spectra, matrices: NDArray[np.float32]) -> Spectra:
    """Normalised spectra of N pictures through all pairs of K spans: float32 (N, K * K, F, F)."""
    spans, frequencies = matrices.shape[:2]
    flat = matrices.reshape(-1, SIDE)
    both = (flat @ pictures @ flat.T).reshape(len(pictures), spans, frequencies, spans, frequencies)
    return _normalised(both.transpose(0, 1, 3, 2, 4).reshape(-1, frequencies, frequencies)).reshape(
        len(pictures), spans**2, frequencies, frequencies
    )


def _hashes(pictures: Pictures, matrices: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Perceptual hashes of N pictures through all pairs of K spans: uint64 (N, K * K); 0 for a picture of one colour."""
    spans, flat = len(matrices), matrices.reshape(-1, SIDE)
    result = np.empty((len(pictures), spans**2), np.uint64)
    for begin in range(0, len(pictures), _BLOCK):
        block = pictures[begin : begin + _BLOCK].astype(np.float32)
        both = (flat @ block @ flat.T).reshape(len(block), spans, 8, spans, 8).transpose(0, 1, 3, 2, 4)
        positive = (both > 0).reshape(len(block), spans**2, 64)
        positive[..., 0] = False
        positive[np.ptp(block.reshape(len(block), -1), axis=1) == 0] = False
        result[begin : begin + _BLOCK] = np.packbits(positive, axis=-1, bitorder="little").view("<u8")[..., 0]
    return result


def _normalised(spectra: NDArray[Any]) -> Spectra:
    """Spectra (N, F, F) weighted by radius, without the mean and the corner, of length 1."""
    frequencies = spectra.shape[-1]
    radius = np.hypot(*np.indices((frequencies, frequencies))).astype(np.float32)
    weighted = spectra * np.where((radius > 0) & (radius < frequencies), radius, np.float32(0))
    length = np.sqrt(np.einsum("nab,nab->n", weighted, weighted))
    scaled: Spectra = weighted / np.maximum(length, 1e-6)[:, None, None]
    return scaled


def _matrix(spans: NDArray[np.float32], frequencies: int) -> NDArray[np.float32]:
    """What takes a line of 64 pixels to the cosine transform of a span of it: (N, 2) to float32 (N, F, 64).

    The span is sampled at twice as many points as frequencies, at least 32, linearly between pixels.
    """
    points = max(32, 2 * frequencies)
    along = (np.arange(points, dtype=np.float32) + 0.5) / points
    places = (spans[:, :1] + along * (spans[:, 1:] - spans[:, :1])) * SIDE - 0.5
    left = np.clip(np.floor(places), 0, SIDE - 2).astype(np.int64)
    weight = np.clip(places - left, 0, 1).astype(np.float32)
    samples = np.zeros((len(spans), points, SIDE), np.float32)
    number, point = np.indices(left.shape)
    samples[number, point, left] = 1 - weight
    samples[number, point, left + 1] = weight
    cosines = np.cos(np.pi / points * np.outer(np.arange(frequencies), np.arange(points) + 0.5)).astype(np.float32)
    result: NDArray[np.float32] = cosines @ samples
    return result


def _turned(pictures: Spectra, orientations: Rows) -> Spectra:
    """Each picture of (N, 64, 64) in its orientation: transposed (4), then mirrored down (2) and across (1)."""
    result = pictures.copy()
    for number in range(1, 8):
        chosen = orientations == number
        some = pictures[chosen]
        some = some.transpose(0, 2, 1) if number & 4 else some
        some = some[:, ::-1] if number & 2 else some
        result[chosen] = some[:, :, ::-1] if number & 1 else some
    return result
