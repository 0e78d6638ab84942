"""Read an image's format and size from its first bytes, without decoding it and without an imaging library.

An image is bounded by its header before anything is decoded, and this runs once per file beside the
decoder: for the common JPEG and PNG it costs a few microseconds.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass

Bytes = bytes | mmap.mmap

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_LS_FRAME = 0xF7
_JPEG_BARE = frozenset((0x01, *range(0xD0, 0xD9)))
_DICOM_GROUPS = (b"\x02\0", b"\x08\0", b"\0\x08")
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_TIFF_SIZES = {1: ("B", 1), 3: ("H", 2), 4: ("I", 4), 16: ("Q", 8)}


class HeaderError(ValueError):
    """The bytes do not start like a whole image; `truncated` says that they stop too early."""

    def __init__(self, reason: str, truncated: bool = False) -> None:
        super().__init__(reason)
        self.truncated = truncated


@dataclass(frozen=True, slots=True)
class Header:
    """What the first bytes of an image file say.

    Attributes:
        width: Stored width in pixels, before any EXIF rotation.
        height: Stored height in pixels, before any EXIF rotation.
        format: `jpeg`, `png`, `tiff`, `bmp` or `webp`.
        channels: Stored samples per pixel (palette images count as 3).
        bits: Bits per stored sample.
        alpha: Whether some pixels may be transparent.
        pages: Number of pages (TIFF) or frames (WebP); 1 for all others.
        pyramid: Whether it is a TIFF in tiles with smaller copies of itself: a slide.
        planar: Whether a TIFF keeps its channels one after the other.
    """

    width: int
    height: int
    format: str
    channels: int = 3
    bits: int = 8
    alpha: bool = False
    pages: int = 1
    pyramid: bool = False
    planar: bool = False


def sniff(data: Bytes) -> Header | None:
    """The header of the image in `data`, or None where no supported format begins like this.

    Raises:
        HeaderError: The format is known but its header is broken or cut off.
    """
    start = data[:4]
    try:
        if start[:3] == b"\xff\xd8\xff":
            return _jpeg(data)
        if start == b"\x89PNG":
            return _png(data)
        if start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return _tiff(data)
        if start == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        if start[:2] == b"BM":
            return _bmp(data)
    except (IndexError, struct.error):
        raise HeaderError("the file ends inside its header", truncated=True) from None
    return None


def begins_like_dicom(data: Bytes) -> bool:
    """Whether a file begins like a DICOM file: by the letters at its byte 128, or with a data set right away, as some devices write it."""
    return data[128:132] == b"DICM" or data[:2] in _DICOM_GROUPS


def jpeg_ends(data: Bytes) -> bool:
    """Whether a JPEG has its end-of-image marker behind the start of its scan.

    Decoders fill what is missing with grey and say nothing, so this is the only sign of a cut file. Inside a
    scan the byte pair FF D9 cannot occur; behind the marker any trailer is allowed.
    """
    if data[-2:] == b"\xff\xd9":
        return True
    try:
        scan = _jpeg_segment(data, frozenset((0xDA,)))
    except (IndexError, HeaderError):
        return False
    return data.rfind(b"\xff\xd9", scan) >= 0


def codestream(data: Bytes) -> Header | None:
    """The header of a bare JPEG, JPEG-LS or JPEG 2000 image, as DICOM files hold them; None for anything else.

    Raises:
        HeaderError: It is one of them but its header is broken or cut off.
    """
    try:
        if data[:2] == b"\xff\xd8":
            at = _jpeg_segment(data, _JPEG_FRAMES | {_JPEG_LS_FRAME})
            bits, height, width, channels = struct.unpack(">BHHB", data[at + 4 : at + 10])
            return Header(width, height, "jpeg", channels, bits)
        if data[:4] == b"\xff\x4f\xff\x51":
            right, bottom, left, top = struct.unpack(">IIII", data[8:24])
            return Header(right - left, bottom - top, "jpeg2000", struct.unpack(">H", data[40:42])[0], (data[42] & 0x7F) + 1)
    except (IndexError, struct.error):
        raise HeaderError("the image ends inside its header", truncated=True) from None
    return None


def _jpeg_segment(data: Bytes, wanted: frozenset[int]) -> int:
    """Offset of the first segment whose marker is in `wanted` (the offset of its FF byte)."""
    at = 2
    while True:
        if data[at] != 0xFF:
            raise HeaderError("the JPEG header is broken: no marker where one must be")
        marker = data[at + 1]
        if marker in wanted:
            return at
        if marker == 0xFF:
            at += 1
        elif marker in _JPEG_BARE:
            at += 2
        elif marker == 0xDA or marker == 0xD9:
            raise HeaderError("the JPEG has no frame header in front of its scan")
        else:
            at += 2 + (data[at + 2] << 8 | data[at + 3])


def _jpeg(data: Bytes) -> Header:
    at = _jpeg_segment(data, _JPEG_FRAMES)
    bits, height, width, channels = struct.unpack(">BHHB", data[at + 4 : at + 10])
    return Header(width, height, "jpeg", channels, bits)


def _png(data: Bytes) -> Header:
    signature, name, width, height, bits, kind = struct.unpack(">8s4x4sIIBB", data[:26])
    if signature != b"\x89PNG\r\n\x1a\n" or name != b"IHDR" or kind not in _PNG_CHANNELS:
        raise HeaderError("the PNG header is broken")
    alpha = kind in (4, 6)
    if not alpha:  # a tRNS chunk, if any, stands before the first IDAT
        first = data.find(b"IDAT", 33)
        alpha = data.find(b"tRNS", 33, first if first >= 0 else len(data)) >= 0
    return Header(width, height, "png", _PNG_CHANNELS[kind], bits, alpha)


def _bmp(data: Bytes) -> Header | None:
    size = struct.unpack("<I", data[14:18])[0]
    if size == 12:
        width, height, _, depth = struct.unpack("<HHHH", data[18:26])
    elif 40 <= size <= 124:
        width, height, _, depth = struct.unpack("<iiHH", data[18:30])
    else:
        return None
    return Header(abs(width), abs(height), "bmp", 4 if depth == 32 else 3, 8, depth == 32)


def _webp(data: Bytes) -> Header:
    length = struct.unpack("<I", data[4:8])[0]
    if length + 8 > len(data):
        raise HeaderError(f"the WebP says {length + 8:,} bytes but has {len(data):,}", truncated=True)
    kind = data[12:16]
    if kind == b"VP8X":
        wide, high = data[24:27] + b"\0", data[27:30] + b"\0"
        size = struct.unpack("<I", wide)[0] + 1, struct.unpack("<I", high)[0] + 1
        return Header(*size, "webp", alpha=bool(data[20] & 0x10), pages=_webp_frames(data) if data[20] & 0x02 else 1)
    if kind == b"VP8L":
        word = struct.unpack("<I", data[21:25])[0]
        return Header((word & 0x3FFF) + 1, (word >> 14 & 0x3FFF) + 1, "webp", alpha=bool(word >> 28 & 1))
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return Header(width & 0x3FFF, height & 0x3FFF, "webp")
    raise HeaderError("the WebP header is broken")


def _webp_frames(data: Bytes) -> int:
    """Frames of an animation: its chunks of that name."""
    at, frames = 12, 0
    while at + 8 <= len(data):
        frames += data[at : at + 4] == b"ANMF"
        length = struct.unpack("<I", data[at + 4 : at + 8])[0]
        at += 8 + length + length % 2
    return max(1, frames)


def _tiff(data: Bytes) -> Header:
    order = "<" if data[:1] == b"I" else ">"
    big = data[2] == 43 or data[3] == 43
    at = struct.unpack(order + "Q", data[8:16])[0] if big else struct.unpack(order + "I", data[4:8])[0]
    tags, following = _tiff_directory(data, at, order, big)
    if 256 not in tags or 257 not in tags:
        raise HeaderError("the TIFF header is broken: it states no size")
    channels = 3 if tags.get(262) == 3 else tags.get(277, 1)
    pages, seen, smaller = 1, {at}, False
    while following and following not in seen and pages < 1000:
        seen.add(following)
        pages += 1
        try:
            page, following = _tiff_directory(data, following, order, big)
        except (IndexError, struct.error):
            break
        smaller |= 322 in page and 0 < page.get(256, 0) < tags[256]
    return Header(
        tags[256],
        tags[257],
        "tiff",
        channels,
        tags.get(258, 1),
        338 in tags,
        pages,
        322 in tags and smaller,
        tags.get(284) == 2 and channels > 1,
    )


def _tiff_directory(data: Bytes, at: int, order: str, big: bool) -> tuple[dict[int, int], int]:
    """First value of each integer tag of one directory, and the offset of the next directory (0: none)."""
    count_code, count_size, entry_size, offset_code = ("Q", 8, 20, "Q") if big else ("H", 2, 12, "I")
    inline = struct.calcsize("=" + offset_code)
    count = struct.unpack(order + count_code, data[at : at + count_size])[0]
    if count > 4096:
        raise HeaderError("the TIFF header is broken: its directory has no sensible length")
    tags: dict[int, int] = {}
    for entry in range(at + count_size, at + count_size + count * entry_size, entry_size):
        tag, kind, values = struct.unpack(order + "HH" + offset_code, data[entry : entry + 4 + inline])
        if kind not in _TIFF_SIZES:
            continue
        code, size = _TIFF_SIZES[kind]
        place = entry + 4 + inline
        if values * size > inline:
            place = struct.unpack(order + offset_code, data[place : place + inline])[0]
        value: int = struct.unpack(order + code, data[place : place + size])[0]
        tags[tag] = max(value, tags.get(tag, value))  # of a tag that stands twice, decoders take the first or the last
    end = at + count_size + count * entry_size
    return tags, struct.unpack(order + offset_code, data[end : end + inline])[0]
