"""The data set of a DICOM file: how its elements are written, and where they begin. A deflated one is inflated only as far as needed."""

from __future__ import annotations

import zlib
from collections.abc import Collection
from dataclasses import dataclass

from pydicom.uid import (
    AllTransferSyntaxes,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from isograft.data.dicom_elements import Elements, text, walk
from isograft.data.headers import Bytes, begins_like_dicom
from isograft.data.readers import ReadError

INFLATED_HEADER = 1 << 20
"""As much of a deflated data set is inflated to find its header."""

_SYNTAX = 0x00020010
_LAST_META, _LAST = 0x0002FFFF, 0x7FE00007
"""The last elements before the data set, and before any pixels."""
_LARGEST_INFLATED = 1 << 30


@dataclass(frozen=True, eq=False, slots=True)
class DataSet:
    """The opened data set of a file.

    Attributes:
        syntax: UID of its transfer syntax; where the file does not state it, the one it seems to have.
        guessed: Whether the file does not state it.
        plain: The bytes it lies in: the file, or its inflated beginning.
        start: Where in them it begins.
        deflated_from: The byte of the file where a deflated data set begins; None where it is not deflated.
    """

    syntax: str
    guessed: bool
    plain: Bytes
    start: int
    deflated_from: int | None

    @property
    def order(self) -> str:
        """The byte order, as `struct` writes it."""
        return ">" if self.syntax == ExplicitVRBigEndian else "<"

    def elements(self, tags: Collection[int]) -> tuple[Elements, int]:
        """The elements with these tags, and where the pixels begin, or the data end.

        Raises:
            ReadError: The data end before.
        """
        implicit = not names_its_kind(self.plain[self.start : self.start + 6])  # some files do not keep to their transfer syntax here
        return walk(self.plain, self.start, implicit, self.order, _LAST, tags)


def open_data_set(data: Bytes) -> DataSet:
    """Find the data set in a DICOM file.

    Raises:
        ReadError: It is no DICOM file, or written as the standard does not know.
    """
    preamble = data[128:132] == b"DICM"
    if not begins_like_dicom(data):
        raise ReadError("unsupported", "not a DICOM file: it does not begin like one")
    meta, begin = walk(data, 132 if preamble else 0, False, "<", _LAST_META, (_SYNTAX,))
    syntax = text(meta, _SYNTAX)
    guessed = not syntax
    if guessed:
        syntax = _likely_syntax(data[begin : begin + 6])
    if syntax not in AllTransferSyntaxes:
        raise ReadError("unsupported", "it is written in no transfer syntax of the standard; convert it to Explicit VR Little Endian")
    if syntax != DeflatedExplicitVRLittleEndian:
        return DataSet(syntax, guessed, data, begin, None)
    return DataSet(syntax, guessed, _inflate(data, begin, INFLATED_HEADER), 0, begin)


def inflated(data: Bytes, deflated_from: int, needed: int) -> bytes:
    """The first `needed` bytes of a deflated data set, no more: a small file can hide terabytes.

    Raises:
        ReadError: It is broken, or more than a gigabyte is needed.
    """
    if needed > _LARGEST_INFLATED:
        raise ReadError("too_large", f"{needed / 1e9:.1f} GB when inflated; write it without deflation")
    return _inflate(data, deflated_from, needed)


def names_its_kind(element: bytes) -> bool:
    """Whether an element states its value representation, two capitals behind the tag."""
    return element[4:6].isalpha() and element[4:6].isupper()


def _inflate(data: Bytes, start: int, needed: int) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(memoryview(data)[start:], needed)
    except zlib.error:
        raise ReadError("corrupt", "its deflated data set is broken") from None


def _likely_syntax(start: bytes) -> str:
    """The transfer syntax of a data set that begins like this."""
    if not names_its_kind(start):
        return ImplicitVRLittleEndian
    return ExplicitVRBigEndian if start[:1] == b"\0" else ExplicitVRLittleEndian
