"""The pixels of one frame of a DICOM file, as they are stored: decoded, in RGB where they are colours, nothing else done."""

from __future__ import annotations

import struct
from typing import Any

from numpy.typing import NDArray
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from isograft.data import dicom_helper
from isograft.data.dicom_header import DicomHeader, data_set_bytes
from isograft.data.headers import Bytes, HeaderError, codestream, jpeg_ends
from isograft.data.readers import ReadError

_JPEG = frozenset(JPEGTransferSyntaxes) | frozenset(JPEGLSTransferSyntaxes)
_J2K = frozenset(JPEG2000TransferSyntaxes)
_PACKAGES = {"gdcm": "python-gdcm", "pylibjpeg": "pylibjpeg-openjpeg or pylibjpeg-rle", "pillow": "pillow"}
_J2K_START, _EOC = b"\xff\x4f\xff\x51", b"\xff\xd9"


def stored_pixels(data: Bytes, header: DicomHeader, frame: int) -> NDArray[Any]:
    """Decode one frame, and no other.

    Args:
        data: The file.
        header: Its header.
        frame: Which frame, from 0 on.

    Returns:
        Integers of 8 or 16 bits in the machine's byte order: (H, W), in `header.range`, perhaps not writable; or (H, W, 3) RGB.

    Raises:
        ReadError: The frame is broken, cut off, or compressed in a way that no installed package reads.
    """
    try:
        decoded = _decode(data_set_bytes(data, header), header, frame)
        return _within_range(decoded, header) if header.samples == 1 else decoded
    except (ReadError, MemoryError):
        raise
    except BaseException as error:  # decoders raise all kinds of errors, and what they say may quote the file
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # which is how one in Rust fails
            raise
        raise ReadError("corrupt", f"its {_syntax_name(header)} pixel data cannot be decoded") from None


def _decode(plain: memoryview, header: DicomHeader, frame: int) -> NDArray[Any]:
    try:
        decoder = get_decoder(header.syntax)
    except NotImplementedError:
        raise ReadError("unsupported", f"pixel data in {_syntax_name(header)}, which is not read") from None
    if not decoder.is_available:
        raise ReadError("unsupported", f"no installed package decodes {_syntax_name(header)}; pip install 'isograft[dicom]'")
    if header.fragments is None:
        data = plain[header.start : header.start + header.pixel_bytes + header.pixel_bytes % 2]
        return decoder.as_array(data, index=frame, **_options(header, header.frames))[0]
    coded = _frame_bytes(plain, header, header.fragments, frame)
    if header.syntax in _JPEG or header.syntax in _J2K:
        coded = _checked(coded, header)
    plugin, options = _plugin(header), _options(header, 1)
    if plugin not in decoder.available_plugins:
        raise ReadError("unsupported", f"{_syntax_name(header)} needs the package {_PACKAGES[plugin]}; pip install 'isograft[dicom]'")
    if plugin == "pillow" or header.syntax == RLELossless:
        return decoder.as_array(encapsulate([coded], has_bot=False), index=0, decoding_plugin=plugin, **options)[0]
    return dicom_helper.decode(header.syntax, plugin, coded, options)


def _plugin(header: DicomHeader) -> str:
    """Which of pydicom's plugins decodes it: the one that bears broken data best."""
    if header.syntax in _J2K or header.syntax == RLELossless:
        return "pylibjpeg"
    eight_bits = header.syntax == JPEGBaseline8Bit or (header.syntax == JPEGExtended12Bit and header.stored == 8)
    return "pillow" if eight_bits else "gdcm"


def _options(header: DicomHeader, frames: int) -> dict[str, Any]:
    """The decoding options of pydicom."""
    options: dict[str, Any] = {
        "rows": header.rows,
        "columns": header.columns,
        "samples_per_pixel": header.samples,
        "bits_allocated": header.allocated,
        "bits_stored": header.stored,
        "pixel_representation": int(header.signed),
        "photometric_interpretation": header.photometric,
        "planar_configuration": header.planar,
        "number_of_frames": frames,
        "pixel_keyword": "PixelData",
        "pixel_vr": header.written,
    }
    if header.samples == 1:
        options["correct_unused_bits"] = False  # `_within_range` does, where there is something to correct
        if header.fragments is None and header.allocated > 1:
            options["view_only"] = True
    return options


def _within_range(array: NDArray[Any], header: DicomHeader) -> NDArray[Any]:
    """Grey values without what stands in the bits above those stored; compressed images of other sizes than stated are refused."""
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    low, high = header.range
    smallest, largest = int(array.min()), int(array.max())
    if low <= smallest and largest <= high:
        return array
    if header.syntax in _J2K or header.syntax in JPEGLSTransferSyntaxes:
        raise ReadError("corrupt", f"its pixels hold {smallest} to {largest}, but its header states {header.stored} bits: {low} to {high}")
    unused = 8 * array.itemsize - header.stored
    shifted: NDArray[Any] = array << unused >> unused
    return shifted


def _syntax_name(header: DicomHeader) -> str:
    return UID(header.syntax).name


def _frame_bytes(plain: memoryview, header: DicomHeader, fragments: tuple[int, ...], frame: int) -> bytes:
    """The compressed bytes of a frame."""

    def fragment(at: int) -> memoryview:
        return plain[at + 8 : at + 8 + struct.unpack("<I", plain[at + 4 : at + 8])[0]]

    if len(fragments) == header.frames:
        return bytes(fragment(fragments[frame]))
    if header.frames == 1:
        return b"".join(fragment(at) for at in fragments)
    end = fragments[-1] + 8 + len(fragment(fragments[-1]))
    return get_frame(bytes(plain[header.start : end]), frame, number_of_frames=header.frames)


def _checked(coded: bytes, header: DicomHeader) -> bytes:
    """A compressed image that is whole and of the size its DICOM header states, without any file format around it.

    Decoders make room for the size that the image itself states, and fill what is missing with grey.
    """
    at = coded.find(_J2K_START, 0, 4096) if header.syntax in _J2K else 0
    coded = coded[max(at, 0) :]
    try:
        own = codestream(coded)
    except HeaderError:
        own = None
    if own is None:
        raise ReadError("corrupt", f"its pixel data do not begin like {_syntax_name(header)}")
    if (own.width, own.height, own.channels) != (header.columns, header.rows, header.samples):
        stated = f"{header.columns} x {header.rows} x {header.samples}"
        raise ReadError("corrupt", f"its compressed image is {own.width} x {own.height} x {own.channels}, but its header states {stated}")
    if not (_EOC in coded[-16:] if header.syntax in _J2K else jpeg_ends(coded)):
        raise ReadError("truncated", f"its {_syntax_name(header)} image stops before its end")
    return coded
