"""What an image looks like in 256 bits: enough to tell a copy from an image that is only alike, without keeping pixels.

The perceptual hash has 63 bits. Among thousands of dermoscopy images, pairs of different lesions come as close by it as re-encoded
copies do, so it finds candidates and cannot decide. The look decides: it is the signs of 256 projections of the grey image's lower
frequencies, each frequency weighted by its radius, so that the steep fall of natural images does not leave the decision to the
coarsest shapes. The share of differing signs estimates the angle between two images (Charikar, STOC 2002), that is their normalised
correlation. From signs alone no image can be drawn again.

The 256 projections are 32 random ones, each in its eight mirrored and turned versions. So mirroring or turning an image only permutes
the bits inside each byte, and two looks can be compared in all eight orientations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isograft.data.hashing import cosine_matrix, spectra

LOOK_BYTES = 32
SAME_LOOK = 27
"""Two images whose looks differ in at most so many of 256 bits, in the best orientation, are the same picture.

Of 3,000 HAM10000 images 99.1 % differed in at most so many from themselves as JPEG of quality 50; of 50 million pairs of different
lesions one came as close, and it was the same photograph. From 28 bits on truly different lesions follow
(benchmarks/look_distance.py)."""

_FREQUENCIES = 20
_SCALE = 256.0

Looks = NDArray[np.uint64]


def looks(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The looks of N thumbnails at once.

    Args:
        thumbnails: uint8 (N, 32, 32, 3) RGB, as `isograft.data.hashing.thumbnail` makes them.

    Returns:
        uint8 (N, 32); all sums are exact, so they are the same in any batch on any machine.
    """
    count = len(thumbnails)
    if count == 0:
        return np.empty((0, LOOK_BYTES), np.uint8)
    return np.packbits(spectra(thumbnails, _DCT).reshape(count, -1) @ _PROJECTIONS.T > 0, axis=1, bitorder="little")


def words(column: Sequence[str]) -> Looks:
    """N looks, as a manifest holds them (64 hexadecimal digits), as uint64 (N, 4)."""
    return np.frombuffer(bytes.fromhex("".join(column)), np.uint64).reshape(-1, LOOK_BYTES // 8)


def look_distance(ones: Looks, others: Looks) -> NDArray[np.int64]:
    """Differing bits of N pairs in their best mutual orientation: uint64 (N, 4) twice to int64 (N,), 0 (same picture) to about 128."""
    best = np.full(len(ones), 8 * LOOK_BYTES, np.int64)
    for table in _TURNS:
        turned = table[ones.view(np.uint8)].view(np.uint64)
        np.minimum(best, np.bitwise_count(turned ^ others).sum(axis=1, dtype=np.int64), out=best)
    return best


def _cosines() -> NDArray[np.float64]:
    """The matrix of the hash at more frequencies, float64 (20, 32), its first row scaled to the length of the others."""
    matrix = cosine_matrix(_FREQUENCIES, _SCALE)
    matrix[0] = np.rint(_SCALE / np.sqrt(2))
    return matrix


def _orientations(spectra: NDArray[Any]) -> NDArray[Any]:
    """The eight mirrored and turned copies of spectra: (N, 20, 20) to (N, 8, 20, 20); number 4t + 2a + b transposes, then mirrors."""
    odd = np.where(np.arange(_FREQUENCIES) % 2, -1.0, 1.0)
    copies = []
    for turned in (spectra, spectra.transpose(0, 2, 1)):
        for down in (np.ones_like(odd), odd):
            copies += [turned * down[:, None] * right[None] for right in (np.ones_like(odd), odd)]
    return np.stack(copies, axis=1)


def _projections() -> NDArray[np.float64]:
    """Weighted signs, float64 (256, 400): 32 from a fixed stream of bits (SHAKE-256), each in its eight orientations."""
    size = _FREQUENCIES**2
    stream = hashlib.shake_256(b"isograft.look.v1").digest(LOOK_BYTES * size // 8)
    signs = np.unpackbits(np.frombuffer(stream, np.uint8)).reshape(LOOK_BYTES, _FREQUENCIES, _FREQUENCIES) * 2.0 - 1.0
    radius = np.hypot(*np.indices((_FREQUENCIES, _FREQUENCIES)))
    weights = np.where((radius > 0) & (radius < _FREQUENCIES), np.rint(radius), 0.0)
    return (_orientations(signs) * weights).reshape(8 * LOOK_BYTES, size)


def _turns() -> NDArray[np.uint8]:
    """For each orientation, where turning an image takes the bits of a byte: uint8 (8, 256), a table over byte values.

    Bit k belongs to the orientation g_k of a projection p. As <g_k p, h x> = <h' g_k p, x> with h' the inverse of h, the turned image
    has at k the bit that the image itself has at the orientation h' g_k.
    """
    generic = np.arange(1.0, 1 + _FREQUENCIES**2).reshape(1, _FREQUENCIES, _FREQUENCIES)
    one = _orientations(generic)[0]
    two = _orientations(one)
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    tables = []
    for turn in range(8):
        source = [next(k for k in range(8) if np.array_equal(one[k], two[bit, turn])) for bit in range(8)]
        tables.append(np.packbits(bits[:, source], axis=1, bitorder="little")[:, 0])
    return np.stack(tables)


_DCT = _cosines()
_PROJECTIONS = _projections()
_TURNS = _turns()
