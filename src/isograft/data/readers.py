"""Turn an image file into pixels, or into one clear sentence why not.

What a file becomes, so that every part of the program sees the same pixels:

- EXIF orientation is applied; palettes are expanded; embedded colour profiles and gamma are ignored.
- Transparency is composed on white. A fully opaque image keeps its colours.
- CMYK becomes RGB by Pillow's plain conversion. Of a TIFF with several pages or a WebP with several frames the first is read, and the
  note says so.
- 16-bit images stay uint16. `to_rgb8` scales them by their real range: the smallest of 8, 10, 12, 14 and 16 bits
  that holds the largest value, so a 12-bit radiograph stored in 16 bits does not turn black.

Nothing is repaired: a file that is cut off or broken is a `ReadError`, never a partly grey image.
"""

from __future__ import annotations

import io
import mmap
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from isograft.data.headers import Bytes, Header, HeaderError, jpeg_ends, sniff

Image = NDArray[np.uint8] | NDArray[np.uint16]
BadStatus = Literal["corrupt", "truncated", "empty", "unsupported", "too_large", "changed"]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".webp"})

_MAPPED_BYTES = 64 << 20
_PILLOW_PIXELS = 89_000_000
_STRIP = 64
_PNG_END = b"IEND\xaeB`\x82"
OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_DEPTHS = (8, 10, 12, 14, 16)


class ReadError(Exception):
    """An image that cannot be used: its `status` for the manifest, and one sentence why."""

    def __init__(self, status: BadStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Pixels:
    """A decoded image.

    Attributes:
        array: uint8 or uint16, (H, W) grey or (H, W, 3) RGB, C-contiguous.
        bits: Bits that the values really use: 8, or for uint16 the result of `real_bits`.
        note: What was done that the user may want to know; empty for an ordinary image.
    """

    array: Image
    bits: int = 8
    note: str = ""


def read_image(path: Path | str, max_pixels: int) -> Pixels:
    """Read and decode one file.

    Args:
        path: The file.
        max_pixels: Larger images (width x height) are refused by their header, before decoding.

    Raises:
        ReadError: The file cannot be used.
    """
    return decode_image(read_bytes(path), max_pixels)


def decode_image(data: Bytes, max_pixels: int) -> Pixels:
    """Decode the bytes of one image file.

    Args:
        data: All of them.
        max_pixels: Larger images (width x height) are refused by their header, before decoding.

    Raises:
        ReadError: They cannot be used.
    """
    if not len(data):
        raise ReadError("empty", "the file has no bytes")
    try:
        header = sniff(data)
    except HeaderError as error:
        raise ReadError("truncated" if error.truncated else "corrupt", str(error)) from None
    if header is None:
        raise ReadError("unsupported", f"not an image in a supported format: it starts with {_start(data)}")
    if header.width * header.height > max_pixels:
        size = f"{header.width} x {header.height} pixels ({header.width * header.height / 1e6:,.0f} megapixels)"
        raise ReadError("too_large", f"{size}, more than the limit of {max_pixels / 1e6:g} megapixels")
    if header.width <= 0 or header.height <= 0:
        raise ReadError("corrupt", f"its header states a size of {header.width} x {header.height} pixels")
    try:
        return _decode(data, header)
    except MemoryError:
        raise ReadError("too_large", f"{header.width} x {header.height} pixels do not fit into memory") from None


def real_bits(array: Image) -> int:
    """Bits the values of an image use: the smallest of 8, 10, 12, 14 and 16 that holds the largest value."""
    if array.dtype == np.uint8:
        return 8
    largest = int(array.max()).bit_length()
    return next(bits for bits in _DEPTHS if bits >= largest)


def to_rgb8(array: Image) -> NDArray[np.uint8]:
    """Turn any image that `read_image` gives into uint8 RGB (H, W, 3).

    Grey becomes three equal channels. uint16 values v become round(v * 255 / (2^b - 1)) with b = `real_bits`:
    a fixed scale for the depth of the scanner, not a stretch to each image's own extremes.
    """
    if array.dtype != np.uint8:
        values = np.arange(1 << 16) * (255.0 / (2 ** real_bits(array) - 1))
        array = np.rint(np.minimum(values, 255)).astype(np.uint8)[array]  # by a table: no copy in float64 of a large image
    if array.ndim == 2:
        return np.repeat(array[:, :, None], 3, axis=2)
    return array  # type: ignore[return-value]


def read_bytes(path: Path | str, mapped: int = _MAPPED_BYTES) -> Bytes:
    """The whole file; one of more than `mapped` bytes is mapped, so that its header can be judged without reading the rest.

    Raises:
        ReadError: It cannot be read, has no bytes, or is no regular file.
    """
    try:
        descriptor = os.open(path, OPEN_FLAGS)
    except OSError as error:
        raise ReadError("corrupt", f"cannot be opened: {error.strerror}") from None
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise ReadError("unsupported", "not a regular file")
        if facts.st_size == 0:
            raise ReadError("empty", "the file has no bytes")
        if facts.st_size > mapped:
            return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        data = os.read(descriptor, facts.st_size)
        while len(data) < facts.st_size:
            more = os.read(descriptor, facts.st_size - len(data))
            if not more:
                break
            data += more
        return data
    except OSError as error:
        raise ReadError("corrupt", f"cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _start(data: Bytes) -> str:
    begin = bytes(data[:16])
    return f'the text "{begin.decode()}"' if begin.isascii() and begin.decode().isprintable() else f"the bytes {begin[:8].hex(' ')}"


def _decode(data: Bytes, header: Header) -> Pixels:
    kind = header.format
    if kind == "jpeg":
        return _decode_jpeg(data, header)
    if kind == "png":
        if data[-8:] != _PNG_END and data.rfind(_PNG_END) < 0:
            raise ReadError("truncated", "the PNG stops before its end: it has no IEND chunk")
        if not header.alpha or header.bits == 16:
            return _decode_opencv(data, header)
    if kind == "tiff" and header.bits == 16:
        if header.planar:
            raise ReadError("unsupported", "a 16-bit TIFF that keeps its channels one after the other; convert it to 16-bit PNG")
        return _decode_opencv(data, header)
    if header.width * header.height > _PILLOW_PIXELS:
        return _decode_opencv(data, header)
    return _decode_pillow(data, header)


def _decode_jpeg(data: Bytes, header: Header) -> Pixels:
    if not jpeg_ends(data):
        raise ReadError("truncated", "the JPEG stops before its end: it has no end-of-image marker")
    if header.bits != 8:
        raise ReadError("unsupported", f"a JPEG with {header.bits} bits per sample; convert it to 8-bit JPEG or 16-bit PNG")
    if header.channels == 4:
        return _decode_pillow(data, header)
    return _decode_opencv(data, header)


def _decode_opencv(data: Bytes, header: Header) -> Pixels:
    """Decode with OpenCV, which applies the EXIF orientation and lets other threads run."""
    if header.alpha:
        flags = cv2.IMREAD_UNCHANGED
    else:
        flags = cv2.IMREAD_GRAYSCALE if header.channels == 1 else cv2.IMREAD_COLOR_RGB
        if header.bits == 16:  # OpenCV 5.0 leaves the memory of a 16-bit RGB TIFF as it was when it is asked for RGB, not BGR
            flags = (flags if header.channels == 1 else cv2.IMREAD_COLOR) | cv2.IMREAD_ANYDEPTH
    try:
        array = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from None
        array = None
    if array is None:
        raise ReadError("corrupt", f"the {header.format.upper()} data cannot be decoded")
    if header.alpha:
        array = _on_white(_alpha_last(array))
    elif header.bits == 16 and array.ndim == 3:
        array = cv2.cvtColor(array, cv2.COLOR_BGR2RGB)
    if array.dtype == np.uint8:
        return Pixels(array, 8, _pages(header)) if header.pages > 1 else Pixels(array)
    if array.dtype != np.uint16:
        raise ReadError("unsupported", f"{array.dtype} samples; convert it to 8 or 16 bits")
    return _sixteen(array, header)


def _sixteen(array: Image, header: Header) -> Pixels:
    bits = real_bits(array)
    note = f"16-bit file, values {array.min()} to {array.max()}, read as {bits} bits"
    return Pixels(array, bits, "; ".join(filter(None, (note, _pages(header)))))


def _pages(header: Header) -> str:
    return f"first of {header.pages} {'frames' if header.format == 'webp' else 'pages'}" if header.pages > 1 else ""


def _decode_pillow(data: Bytes, header: Header) -> Pixels:
    from PIL import Image as Pillow
    from PIL import ImageOps

    try:
        with Pillow.open(io.BytesIO(data)) as opened:
            picture = ImageOps.exif_transpose(opened)
            picture.load()
            array = _pillow_array(picture)
    except ReadError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError, Pillow.DecompressionBombError) as error:
        cut = "truncated" in str(error) or isinstance(error, EOFError)
        status: BadStatus = "truncated" if cut else "corrupt"
        raise ReadError(status, f"the {header.format.upper()} data cannot be decoded: {error}") from None
    if array.dtype == np.uint16:
        return _sixteen(array, header)
    return Pixels(array, 8, _pages(header))


def _pillow_array(picture: Any) -> Image:
    """The pixels of a loaded Pillow image under the rules of this module."""
    mode = picture.mode
    if mode in ("1", "L"):
        return np.ascontiguousarray(picture.convert("L"))
    if mode.startswith("I;16"):
        return np.ascontiguousarray(picture).astype(np.uint16)
    if mode in ("I", "F"):
        raise ReadError("unsupported", "32-bit samples; convert it to 8 or 16 bits")
    if mode in ("LA", "La"):
        return _on_white(np.ascontiguousarray(picture.convert("LA")))
    if mode in ("RGBA", "RGBa", "PA") or "transparency" in picture.info:
        return _on_white(np.ascontiguousarray(picture.convert("RGBA")))
    return np.ascontiguousarray(picture.convert("RGB"))


def _alpha_last(array: Any) -> Any:
    """OpenCV's BGRA as RGBA; images that carry no alpha after all pass with an opaque one."""
    if array.ndim == 3 and array.shape[2] == 4:
        return cv2.cvtColor(array, cv2.COLOR_BGRA2RGBA)
    colour = cv2.cvtColor(array, cv2.COLOR_BGR2RGB) if array.ndim == 3 else array[..., None]
    return np.dstack([colour, np.full(array.shape[:2], np.iinfo(array.dtype).max, array.dtype)])


def _on_white(array: Any) -> Image:
    """Compose on white, rounding to the nearest: uint (H, W, 2) to (H, W), uint (H, W, 4) to (H, W, 3)."""
    full = np.iinfo(array.dtype).max
    colour, alpha = array[..., :-1], array[..., -1:]
    if not (alpha == full).all():
        colour = colour.copy()
        for begin in range(0, len(array), _STRIP):  # in strips: the products are eight times as large as the image
            rows = slice(begin, begin + _STRIP)
            wide = colour[rows].astype(np.uint64) * alpha[rows] + np.uint64(full) * (full - alpha[rows])
            colour[rows] = (2 * wide + full) // (2 * full)
    return np.ascontiguousarray(colour[..., 0] if colour.shape[2] == 1 else colour)
