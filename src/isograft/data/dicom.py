"""DICOM files: which images they hold, whose they are, and their pixels as a screen would show them.

An image of a file with several frames has the part `frame=3`, counted from 0. Where `--window` chose how grey values are shown,
that stands in the part too (`window=LUNG`, `frame=3,window=LUNG`): the address says all that the pixels depend on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from isograft.data.address import Address
from isograft.data.containers import Part
from isograft.data.headers import Bytes
from isograft.data.readers import Pixels, ReadError, read_bytes
from isograft.errors import IsograftError
from isograft.extras import needed
from isograft.settings import ContentSettings

if TYPE_CHECKING:
    from isograft.data.dicom_header import DicomHeader

_WHOLE, _HEADER = 1 << 20, 1 << 16
"""Larger files are mapped, so that a frame of a long one, or a header, costs no more than itself."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What the part of an address says: which frame, None where the file has one, and which window, None for the file's first."""

    number: int | None = None
    window: str | None = None

    @classmethod
    def parse(cls, part: str) -> Frame:
        """The inverse of `str`.

        Raises:
            ReadError: It is no part of a DICOM file.
        """
        front, has_window, window = part.partition("window=")
        front = front.removesuffix(",") if has_window else front
        number = front.removeprefix("frame=")
        if front and not (front.startswith("frame=") and number.isdecimal()):
            raise ReadError("unsupported", f"a DICOM file has no part {part}; frames are named like frame=3")
        return cls(int(number) if front else None, window if has_window else None)

    def __str__(self) -> str:
        frame = [] if self.number is None else [f"frame={self.number}"]
        return ",".join(frame + ([] if self.window is None else [f"window={self.window}"]))


def dicom_parts(file: str, settings: ContentSettings) -> list[Part]:
    """The frames of a DICOM file, with the columns that its identifiers give; of one that cannot be used a single part.

    Raises:
        ReadError: It cannot be opened.
        IsograftError: A package is missing, the key for the hashes cannot be had, or `window` is none.
    """
    needed("pydicom", "dicom")
    from isograft.data.dicom_header import identifiers, read_header
    from isograft.data.dicom_identity import IDENTITY_TAGS, identity, telling

    _check_window(settings.window)
    data = read_bytes(file, _HEADER)
    try:
        header = read_header(data, IDENTITY_TAGS)
    except ReadError:  # reading it will say why; whose it is matters all the same, its folder may be called after them
        known = identifiers(data, IDENTITY_TAGS)
        return [Part(telling=telling(file, known))]
    columns, named = identity(header.elements, settings.hash_key), telling(file, header.elements)
    window = settings.window if header.photometric.startswith("MONOCHROME") else None
    numbers = range(header.frames) if header.frames > 1 else [None]
    return [Part(str(Frame(number, window)), columns, named) for number in numbers]


def read_dicom(address: Address, max_pixels: int) -> Pixels:
    """Decode one frame.

    Args:
        address: Where it lies.
        max_pixels: Larger images (width x height) are refused by their header, before decoding.

    Returns:
        uint8 pixels.

    Raises:
        ReadError: The image cannot be used.
        IsograftError: A package is missing.
    """
    needed("pydicom", "dicom")
    frame = Frame.parse(address.part)
    data = read_bytes(address.file, _WHOLE)
    header = _kept_header(address.file, *_stamp(address.file)) if frame.number is not None else _header(data)
    return _decode_frame(data, header, frame, max_pixels)


def decode_dicom(data: Bytes, max_pixels: int, most_frames: int, all_pixels: int) -> Iterator[tuple[str, Pixels]]:
    """Decode the frames of a DICOM file that lies in memory, one after the other, as `dicom_parts` names them and `read_dicom` reads them.

    Args:
        data: The file.
        max_pixels: Larger frames (width x height) are refused by their header, before decoding.
        most_frames: A file of more frames is refused.
        all_pixels: So is one whose frames have more pixels than this together.

    Yields:
        The part of each image, empty where the file has one, and its uint8 pixels.

    Raises:
        ReadError: The file cannot be used.
        IsograftError: A package is missing.
    """
    needed("pydicom", "dicom")
    header = _header(data)
    if header.frames > most_frames:
        raise ReadError("too_large", f"it has {header.frames:,} frames, more than the limit of {most_frames:,}")
    most = max_pixels if header.deflated_from is not None else all_pixels  # every frame of a deflated file costs the inflation of all
    if header.frames > 1 and header.rows * header.columns * header.frames > most:
        raise ReadError("too_large", f"its {header.frames:,} frames have more than {most / 1e6:g} megapixels together")
    for number in range(header.frames) if header.frames > 1 else [None]:
        frame = Frame(number)
        yield str(frame), _decode_frame(data, header, frame, max_pixels)


def _decode_frame(data: Bytes, header: DicomHeader, frame: Frame, max_pixels: int) -> Pixels:
    from isograft.data.dicom_pixels import stored_pixels
    from isograft.data.dicom_values import shown

    if frame.number is None and header.frames > 1:
        raise ReadError("unsupported", f"it holds {header.frames:,} frames; ingest it, and give the manifest, which names each of them")
    if (number := frame.number or 0) >= header.frames:
        raise ReadError("corrupt", f"it has no frame {number}: the frames of this file are 0 to {header.frames - 1}")
    if header.rows * header.columns > max_pixels:
        size = f"{header.columns} x {header.rows} pixels ({header.rows * header.columns / 1e6:,.0f} megapixels)"
        raise ReadError("too_large", f"{size}, more than the limit of {max_pixels / 1e6:g} megapixels")
    try:
        return shown(stored_pixels(data, header, number), header, number, frame.window)
    except MemoryError:
        raise ReadError("too_large", f"{header.columns} x {header.rows} pixels do not fit into memory") from None


def _check_window(window: str | None) -> None:
    """Refuse a window given by numbers that no window can have."""
    from isograft.data.dicom_values import NUMERIC_WINDOW

    numbers = NUMERIC_WINDOW.fullmatch(window or "")
    if numbers and float(numbers[2]) < 1:
        raise IsograftError(f"--window {window} is {numbers[2]} wide; 1 is the least")


def _stamp(file: str) -> tuple[int, int]:
    """Size and time of a file: it is the same as long as they are."""
    try:
        facts = os.stat(file)  # noqa: PTH116
    except OSError as error:
        raise ReadError("corrupt", f"cannot be opened: {error.strerror}") from None
    return facts.st_size, facts.st_mtime_ns


@lru_cache(maxsize=16)
def _kept_header(file: str, size: int, changed: int) -> DicomHeader:
    """The header of a file with many frames, read once for them all."""
    return _header(read_bytes(file, _WHOLE))


def _header(data: Bytes) -> DicomHeader:
    from isograft.data.dicom_header import read_header
    from isograft.data.dicom_values import VALUE_TAGS

    return read_header(data, VALUE_TAGS)
