"""The header of a DICOM file: how its pixels are stored, and where they lie."""

from __future__ import annotations

import io
import struct
from collections.abc import Collection
from dataclasses import dataclass
from typing import cast

from pydicom.encaps import parse_fragments
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from isograft.data.dicom_elements import Elements, items, stream_of, text, unsigned
from isograft.data.dicom_file import INFLATED_HEADER, DataSet, inflated, names_its_kind, open_data_set
from isograft.data.headers import Bytes
from isograft.data.readers import ReadError

PHOTOMETRIC = frozenset(("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"))
"""Photometric interpretations that are read."""

_SAMPLES, _PHOTOMETRIC, _PLANAR, _FRAMES, _ROWS, _COLUMNS = 0x00280002, 0x00280004, 0x00280006, 0x00280008, 0x00280010, 0x00280011
_ALLOCATED, _STORED, _HIGH_BIT, _REPRESENTATION = 0x00280100, 0x00280101, 0x00280102, 0x00280103
_STRUCTURE = (_SAMPLES, _PHOTOMETRIC, _PLANAR, _FRAMES, _ROWS, _COLUMNS, _ALLOCATED, _STORED, _HIGH_BIT, _REPRESENTATION)
_PIXELS = 0x7FE00010
SHARED_GROUPS, FRAME_GROUPS, _VALUE_GROUPS = 0x52009229, 0x52009230, (0x00289145, 0x00289132)
_PLAIN = (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_DEFLATE_RATIO = 1032
_MOST_FRAMES = 1_000_000


@dataclass(frozen=True, eq=False, slots=True)
class DicomHeader:
    """How the pixels of a DICOM file are stored.

    Attributes:
        syntax: UID of the transfer syntax; where the file does not state it, the one it seems to have.
        guessed: Whether the file does not state it.
        elements: The elements that were asked for.
        frame_elements: What differs from `elements` in each frame, or in all of them; empty where nothing does.
        rows: Height in pixels.
        columns: Width in pixels.
        samples: Samples per pixel, 1 or 3.
        allocated: Bits a sample takes: 1, 8 or 16.
        stored: Bits of a sample that hold its value, the lowest ones.
        signed: Whether samples are signed.
        photometric: One of `PHOTOMETRIC`.
        planar: 1 where the samples of a colour image lie in planes.
        frames: Number of frames.
        written: Value representation of the pixel data, `OB` or `OW`.
        start: Where the pixel data begin: a byte of the file, or of the inflated data set.
        length: Their length in bytes; None where undefined, as of compressed ones.
        fragments: Where the pieces of compressed pixel data begin.
        deflated_from: The byte of the file where a deflated data set begins.
    """

    syntax: str
    guessed: bool
    elements: Elements
    frame_elements: tuple[Elements, ...]
    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    signed: bool
    photometric: str
    planar: int
    frames: int
    written: str
    start: int
    length: int | None
    fragments: tuple[int, ...] | None
    deflated_from: int | None

    @property
    def range(self) -> tuple[int, int]:
        """The smallest and the largest value that can be stored."""
        return (-(1 << self.stored - 1), (1 << self.stored - 1) - 1) if self.signed else (0, (1 << self.stored) - 1)

    @property
    def frame_bits(self) -> int:
        """Bits of a frame that is not compressed."""
        bits = self.rows * self.columns * self.samples * self.allocated
        return bits // 3 * 2 if self.photometric == "YBR_FULL_422" else bits

    @property
    def pixel_bytes(self) -> int:
        """Bytes of all frames when they are not compressed."""
        return -(-self.frame_bits * self.frames // 8)

    def at(self, frame: int) -> Elements:
        """The elements as they hold for a frame."""
        if not self.frame_elements:
            return self.elements
        return {**self.elements, **self.frame_elements[frame if len(self.frame_elements) > 1 else 0]}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the pixel data lie, as in `DicomHeader`."""

    written: str
    start: int
    length: int | None
    fragments: tuple[int, ...] | None


def read_header(data: Bytes, tags: Collection[int] = ()) -> DicomHeader:
    """Read the header of a DICOM file.

    Args:
        data: The file.
        tags: Tags of the elements that are wanted beside those on how pixels are stored.

    Raises:
        ReadError: It is not a DICOM file, it is broken or cut off, or it holds no pixels that can be read.
    """
    try:
        return _read(data, tags)
    except (ReadError, MemoryError):
        raise
    except Exception:  # a hostile file finds every corner of a parser, and its complaint may quote the file
        raise ReadError("corrupt", "its DICOM header cannot be read") from None


def identifiers(data: Bytes, tags: Collection[int]) -> Elements:
    """The elements with these tags, as far as they can be read: of a file whose pixels cannot be used."""
    try:
        return open_data_set(data).elements(tags)[0]
    except Exception:  # such a file may be broken anywhere
        return {}


def data_set_bytes(data: Bytes, header: DicomHeader) -> memoryview:
    """The bytes that `start` and `fragments` count in: the file, or as much of its inflated data set as the frames need.

    Raises:
        ReadError: It is broken, or larger than a gigabyte when inflated.
    """
    if header.deflated_from is None:
        return memoryview(data)
    return memoryview(inflated(data, header.deflated_from, header.start + header.pixel_bytes))


def _read(data: Bytes, tags: Collection[int]) -> DicomHeader:
    found = open_data_set(data)
    elements, at = found.elements({*_STRUCTURE, *tags})
    header = _describe(found, elements, _place(found, at))
    _check_room(header, len(data))
    return header


def _place(found: DataSet, at: int) -> _Place:
    """Where the pixel data lie: their element begins at `at`."""
    plain = found.plain
    begin = plain[at : at + 12]
    size = 12 if names_its_kind(begin) else 8
    if len(begin) < size:
        _complain(at, found)
    group, element = struct.unpack(found.order + "HH", begin[:4])
    if group != _PIXELS >> 16:
        _complain(len(plain), found)
    if (group << 16 | element) != _PIXELS:
        raise ReadError("unsupported", "its pixels are floating-point numbers; write them as integers of 8 to 16 bits")
    written = begin[4:6].decode("latin-1") if size == 12 else ""
    if found.syntax not in _PLAIN:
        return _Place(written, at + size, None, _fragments(plain, at + size))
    return _Place(written, at + size, struct.unpack(found.order + "I", begin[size - 4 : size])[0], None)


def _complain(at: int, found: DataSet) -> None:
    """Say why there are no pixel data."""
    if found.deflated_from is not None and len(found.plain) >= INFLATED_HEADER:
        raise ReadError("unsupported", "its deflated header is larger than a megabyte; write it without deflation")
    if at != len(found.plain):
        raise ReadError("truncated", "the file ends inside its DICOM header")
    raise ReadError("unsupported", "it holds no pixels: a DICOM report, plan, waveform or directory is no image")


def _fragments(plain: Bytes, start: int) -> tuple[int, ...]:
    """Where the items with the pieces of compressed pixel data begin, behind the offset table."""
    stream, end = stream_of(plain), len(plain)
    stream.seek(start)
    tag, length = struct.unpack("<II", stream.read(8))
    if tag != 0xE000FFFE or start + 8 + length > end:
        raise ReadError("corrupt", "its compressed pixel data do not begin with an offset table")
    stream.seek(start + 8 + length)
    found = parse_fragments(cast("io.BufferedIOBase", stream))[1]
    if not found:
        raise ReadError("truncated", "the file ends in front of its compressed pixel data")
    stream.seek(found[-1] + 4)
    (last,) = struct.unpack("<I", stream.read(4))
    if found[-1] + 8 + last > end:
        raise ReadError("truncated", "the file ends inside its compressed pixel data")
    return tuple(found)


def _describe(found: DataSet, elements: Elements, place: _Place) -> DicomHeader:
    """Put the header together from what its elements say, after checking that it makes sense."""

    def number(tag: int, name: str, default: int | None = None) -> int:
        values = unsigned(elements, tag)
        if not values and default is None:
            raise ReadError("corrupt", f"its header states no {name}")
        return values[0] if values else default or 0

    allocated, frames = number(_ALLOCATED, "bits allocated"), text(elements, _FRAMES).partition("\\")[0]
    header = DicomHeader(
        found.syntax,
        found.guessed,
        elements,
        frame_elements=_frame_elements(elements),
        rows=number(_ROWS, "number of rows"),
        columns=number(_COLUMNS, "number of columns"),
        samples=number(_SAMPLES, "samples per pixel", 1),
        allocated=allocated,
        stored=(stored := number(_STORED, "bits stored", allocated)),
        signed=bool(number(_REPRESENTATION, "pixel representation", 0)),
        photometric=text(elements, _PHOTOMETRIC),
        planar=number(_PLANAR, "planar configuration", 0),
        frames=int(frames or 1),
        written=place.written,
        start=place.start,
        length=place.length,
        fragments=place.fragments,
        deflated_from=found.deflated_from,
    )
    _check_sense(header, number(_HIGH_BIT, "high bit", stored - 1))
    return header


def _check_sense(header: DicomHeader, high_bit: int) -> None:
    """Refuse what makes no sense, or is never read."""
    meaning, bits = header.photometric, header.allocated
    if not header.rows or not header.columns:
        raise ReadError("corrupt", f"its header states a size of {header.columns} x {header.rows} pixels")
    if meaning not in PHOTOMETRIC:
        raise ReadError("unsupported", f"its photometric interpretation is none of {', '.join(sorted(PHOTOMETRIC))}")
    grey = meaning in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
    if header.samples != (1 if grey else 3):
        raise ReadError("corrupt", f"its header states {header.samples} samples per pixel, which does not go with {meaning}")
    if bits not in ((1, 8, 16) if grey else (8, 16) if meaning == "RGB" else (8,)) or (header.signed and not grey):
        raise ReadError("unsupported", f"{'signed ' * header.signed}samples of {bits} bits in {meaning}; write them with 8 or 16 bits")
    if not 0 < header.stored <= bits:
        raise ReadError("corrupt", f"its header states {header.stored} bits stored of {bits} bits allocated")
    if high_bit != header.stored - 1:
        raise ReadError("unsupported", f"its values end at bit {high_bit} of {header.stored}; write them to the lowest bits")


def _frame_elements(elements: Elements) -> tuple[Elements, ...]:
    """What the functional groups of each frame say of its values."""
    shared = [one for group in items(elements, SHARED_GROUPS) for name in _VALUE_GROUPS for one in items(group, name)]
    common = {tag: element for one in shared for tag, element in one.items()}
    groups = items(elements, FRAME_GROUPS) or ([{}] if common else [])
    return tuple(
        common | {tag: element for name in _VALUE_GROUPS for one in items(group, name) for tag, element in one.items()} for group in groups
    )


def _check_room(header: DicomHeader, size: int) -> None:
    """Refuse more frames than the file has bytes for."""
    if header.frames > _MOST_FRAMES:
        raise ReadError("too_large", f"it has {header.frames:,} frames, more than the limit of {_MOST_FRAMES:,}")
    if header.frames < 1 or 1 < len(header.frame_elements) < header.frames:
        raise ReadError("corrupt", f"its header states {header.frames:,} frames, but describes {len(header.frame_elements):,}")
    if header.fragments is not None:
        if header.frames > len(header.fragments):
            raise ReadError(
                "corrupt", f"its header states {header.frames:,} frames, but its pixel data have {len(header.fragments):,} pieces"
            )
        return
    if header.deflated_from is not None:
        if header.pixel_bytes > (size - header.deflated_from) * _DEFLATE_RATIO:
            raise ReadError("truncated", f"it is too short for {header.frames:,} frames of {header.columns} x {header.rows} pixels")
        return
    there = size - header.start
    if header.length is not None and header.length > there:
        raise ReadError("truncated", f"the file ends inside its pixel data: {there:,} of {header.length:,} bytes are there")
    if header.pixel_bytes > there if header.length is None else header.pixel_bytes > header.length:
        raise ReadError("corrupt", f"its pixel data are too short for {header.frames:,} frames of {header.columns} x {header.rows} pixels")
