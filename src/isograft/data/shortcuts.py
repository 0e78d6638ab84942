"""What should not tell the label of an image: its file, its border, its corners, its colours at 8 x 8 pixels.

A network finds such shortcuts and is then wrong elsewhere: rulers and ink beside melanomas (Narla et al., JID 2018), the hospital's
mark in the corner of a radiograph (Zech et al., PLOS Medicine 2018), one scanner for the ill and another for the well.
"""

from __future__ import annotations

import os
import struct

import cv2
import numpy as np
from numpy.typing import NDArray

from isograft.data.address import Address

Features = NDArray[np.float32]

FILE, BORDER, CORNERS, COLOUR = "file", "border", "corners", "colour"

_BORDER = 0.06
_CORNER = 0.08
_CELLS = 8
_HEAD = 1 << 16
_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".dcm")


def measure(image: NDArray[np.uint8]) -> dict[str, Features]:
    """What the border, the corners and 8 x 8 pixels show.

    Args:
        image: uint8 (H, W, 3) RGB.

    Returns:
        float32, by probe: `border` (96,), the mean colour of 8 pieces of each of the four edges, 6 % of the shorter side deep; `corners`
        (24,), mean and standard deviation of each colour in four squares of 8 % of the shorter side; `colour` (192,), 8 x 8 mean colours.
    """
    height, width = image.shape[:2]
    deep = max(1, round(_BORDER * min(height, width)))
    side = max(1, round(_CORNER * min(height, width)))
    edges = (image[:deep], image[-deep:], image[:, :deep].transpose(1, 0, 2), image[:, -deep:].transpose(1, 0, 2))
    border = [cv2.resize(np.ascontiguousarray(edge), (_CELLS, 1), interpolation=cv2.INTER_AREA) for edge in edges]
    squares = [image[rows, columns] for rows in (slice(side), slice(-side, None)) for columns in (slice(side), slice(-side, None))]
    corners = [part for square in squares for part in cv2.meanStdDev(np.ascontiguousarray(square))]
    coarse = image
    if max(height, width) > 16 * _CELLS:
        coarse = cv2.resize(image, (16 * _CELLS, 16 * _CELLS), interpolation=cv2.INTER_LINEAR)
    colour = cv2.resize(coarse, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)
    return {
        BORDER: np.concatenate([edge.reshape(-1) for edge in border]).astype(np.float32),
        CORNERS: np.concatenate([part.reshape(-1) for part in corners]).astype(np.float32),
        COLOUR: colour.reshape(-1).astype(np.float32),
    }


def file_facts(place: Address, width: int, height: int, channels: int, bits: int) -> Features:
    """What a file is, without a look at what it shows: float32 (17,).

    Size and shape of the image, its channels and bits; and of a local file its bytes, bytes per pixel, kind, how strongly a JPEG is
    compressed (mean of its quantisation tables), and whether it has EXIF data. What is not known is 0.

    Args:
        place: Where the image lies; a part of a larger file, or a URL, has no bytes of its own.
        width: Width in pixels.
        height: Height in pixels.
        channels: 1 or 3.
        bits: Bits its values use.
    """
    known = [np.log(width), np.log(height), np.log(width / height), float(channels), float(bits)]
    kinds = [float(place.file.lower().endswith(suffix)) for suffix in _SUFFIXES]
    size, coarse, exif = 0, 0.0, 0.0
    if not place.remote and not place.part:
        try:
            with open(place.file, "rb") as stream:  # noqa: PTH123  (a million times)
                size = os.fstat(stream.fileno()).st_size
                coarse, exif = _jpeg_facts(stream.read(_HEAD))
        except OSError:
            size = 0
    return np.array([*known, *kinds, np.log1p(size), np.log1p(size / (width * height)), coarse, exif], np.float32)


def _jpeg_facts(head: bytes) -> tuple[float, float]:
    """Logarithm of the mean quantisation step, and whether there is an EXIF segment; zeros for what is no JPEG."""
    if head[:3] != b"\xff\xd8\xff":
        return 0.0, 0.0
    at, steps, exif = 2, [], 0.0
    while at + 4 <= len(head) and head[at] == 0xFF and head[at + 1] != 0xDA:
        marker, (length,) = head[at + 1], struct.unpack(">H", head[at + 2 : at + 4])
        segment = head[at + 4 : at + 2 + length]
        if marker == 0xDB:
            steps += _steps(segment)
        elif marker == 0xE1 and segment[:4] == b"Exif":
            exif = 1.0
        at += 2 + max(2, length)
    return (float(np.log(np.mean(steps))) if steps else 0.0), exif


def _steps(segment: bytes) -> list[int]:
    """All quantisation steps of a DQT segment."""
    steps: list[int] = []
    while len(segment) > 64:
        wide = segment[0] >> 4
        count = 128 if wide else 64
        table = segment[1 : 1 + count]
        steps += np.frombuffer(table, ">u2" if wide else np.uint8).tolist() if len(table) == count else []
        segment = segment[1 + count :]
    return steps
