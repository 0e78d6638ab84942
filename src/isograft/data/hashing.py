"""Fingerprints of images and groups: same pixels, same look, same patient.

`pixel_hash` finds identical images whatever their file format. `perceptual_hash` finds re-encoded, resized,
mirrored or turned copies. `group_hash` lets a model remember which patients it saw without storing their names.
"""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
from numpy.typing import NDArray

from isograft.data.readers import Image, to_rgb8

GROUP_KEY = b"isograft.group.v1"
"""Public constant: it separates these hashes from others, it does not make them secret."""

THUMBNAIL = 32
_DCT_SCALE = 4096.0


def pixel_hash(array: Image) -> str:
    """SHA-256 over dtype, shape and pixels.

    Args:
        array: uint8 or uint16, (H, W) or (H, W, 3).

    Returns:
        64 hexadecimal digits, the same on every machine (samples are hashed as little-endian).
    """
    if array.itemsize > 1:
        array = array.astype("<u2", copy=False)
    digest = hashlib.sha256(f"uint{8 * array.itemsize} {array.shape}\n".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def group_hash(group: str) -> str:
    """BLAKE2b of a group's name, keyed with `GROUP_KEY`: 32 hexadecimal digits.

    Names that are easy to guess (patient 1, 2, 3, ...) can be found again by trying; treat the hashes as pseudonyms.
    """
    return hashlib.blake2b(group.encode("utf-8", "surrogatepass"), key=GROUP_KEY, digest_size=16).hexdigest()


def thumbnail(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink an image to 32 x 32 for the perceptual hash: uint8 (H, W) or (H, W, 3) to the same kind.

    Bilinear from a grid of at most 8 source pixels per sample (up to 256 x 256), then halved by averaging: a few
    per cent of a JPEG decode, where averaging every source pixel would cost as much as the decode itself.
    """
    side, longest = THUMBNAIL, max(array.shape[:2])
    while side < 256 and side * 8 < longest:
        side *= 2
    small = cv2.resize(array, (side, side), interpolation=cv2.INTER_LINEAR)
    while side > THUMBNAIL:
        side //= 2
        small = cv2.resize(small, (side, side), interpolation=cv2.INTER_AREA)
    return small  # type: ignore[no-any-return]


def perceptual_hashes(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Perceptual hashes of N thumbnails at once.

    The signs of the 63 lowest non-constant frequencies (8 x 8) of the 32 x 32 grey image's cosine transform, bit
    8u + v for the vertical frequency u and the horizontal v. Mirroring flips the signs of odd frequencies and
    transposing swaps u and v, so the hashes of all eight mirrored and turned copies follow from one (`variants`);
    the smallest of the eight is kept, so all eight copies share one hash. Compare with `perceptual_distance`.
    The cosine matrix is rounded to integers so that the sums are exact: the same hash in any batch on any machine.

    Args:
        thumbnails: uint8 (N, 32, 32, 3) RGB.

    Returns:
        uint64 (N,); 0 for an image of one colour.
    """
    count = len(thumbnails)
    if count == 0:
        return np.empty(0, np.uint64)
    positive = (spectra(thumbnails, _DCT) > 0).reshape(count, 64)
    positive[:, 0] = False
    packed = np.packbits(positive, axis=1, bitorder="little").view("<u8")[:, 0].astype(np.uint64)
    smallest: NDArray[np.uint64] = variants(packed).min(axis=0)
    return smallest


def spectra(thumbnails: NDArray[np.uint8], cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine transforms of N grey thumbnails, whole numbers as far as the matrix is of such.

    Args:
        thumbnails: uint8 (N, 32, 32, 3) RGB, N at least 1.
        cosines: float64 (F, 32), see `cosine_matrix`.

    Returns:
        float64 (N, F, F), vertical frequency first.
    """
    count = len(thumbnails)
    grey = cv2.cvtColor(thumbnails.reshape(count * THUMBNAIL, THUMBNAIL, 3), cv2.COLOR_RGB2GRAY).astype(np.float64)
    across = (grey @ cosines.T).reshape(count, THUMBNAIL, len(cosines))
    result: NDArray[np.float64] = cosines @ across
    return result


def perceptual_hash(array: Image) -> int:
    """Perceptual hash of one image, uint8 or uint16, (H, W) or (H, W, 3); see `perceptual_hashes`."""
    small = thumbnail(to_rgb8(array))
    return int(perceptual_hashes(small[None])[0])


def variants(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The hashes of the eight mirrored and turned copies: uint64 (N,) to uint64 (8, N)."""
    turned = np.stack([hashes, _transpose_bits(hashes)])
    masks = np.array([0, _ODD_COLUMNS, _ODD_ROWS, _ODD_COLUMNS ^ _ODD_ROWS], np.uint64)
    present = np.where(turned == 0, np.uint64(0), ~np.uint64(0))  # an image of one colour has no signs to flip
    return ((turned[None] ^ masks[:, None, None]) & present[None]).reshape(8, *hashes.shape)


def perceptual_distance(one: int, other: int) -> int:
    """Number of differing bits between two images in their best mutual orientation: 0 (same look) to 63.

    On dermoscopy and skin patches, copies shrunk to 60 %, mirrored and stored as JPEG of quality 60 differed in 2 to 3
    bits (95 % in at most 7); unrelated images in 25 (one pair in a thousand in at most 11).
    """
    return min(int(turned ^ one).bit_count() for turned in map(int, variants(np.array([other], np.uint64))[:, 0]))


def _transpose_bits(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Transpose each word as an 8 x 8 bit matrix (Warren, Hacker's Delight, section 7-3)."""
    for shift, mask in ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0)):
        step = np.uint64(shift)
        swap = (words ^ (words >> step)) & np.uint64(mask)
        words = words ^ swap ^ (swap << step)
    return words


def cosine_matrix(frequencies: int, scale: float) -> NDArray[np.float64]:
    """DCT-II matrix times `scale`, rounded: float64 (F, 32) with integer values; rows are exactly (anti)symmetric."""
    angles = np.pi / THUMBNAIL * np.outer(np.arange(frequencies), np.arange(THUMBNAIL // 2) + 0.5)
    half = np.rint(np.cos(angles) * scale)
    signs = np.where(np.arange(frequencies) % 2, -1.0, 1.0)[:, None]
    return np.concatenate([half, half[:, ::-1] * signs], axis=1)


def _mask(odd_axis: int) -> int:
    return sum(1 << (8 * u + v) for u in range(8) for v in range(8) if (u, v)[odd_axis] % 2)


_DCT = cosine_matrix(8, _DCT_SCALE)
_ODD_ROWS = _mask(0)
_ODD_COLUMNS = _mask(1)
