"""The elements of a DICOM data set: found by their tags, kept as raw bytes, turned into a value when one is asked for.

Only the headers of the elements are walked over, five times as fast as reading them all, and nothing of a file can reach a message
by way of a parser's complaint: pydicom, whose warnings quote values, parses only sequences.
"""

from __future__ import annotations

import io
import mmap
import struct
import warnings
from collections.abc import Collection, Iterable, Mapping
from typing import Any, BinaryIO, NamedTuple, TypeAlias, cast

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import data_element_generator, read_sequence

from isograft.data.headers import Bytes
from isograft.data.readers import ReadError

# Every file is judged by its row; what pydicom finds odd beside that it would print with the file's own values.
warnings.filterwarnings("ignore", module=r"pydicom\.")

_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_UNPACK = {order: tuple(struct.Struct(order + code).unpack_from for code in ("HH2sH", "HHI", "I")) for order in "<>"}
_UNDEFINED = 0xFFFFFFFF


class Element(NamedTuple):
    """An element.

    Attributes:
        kind: Its value representation; empty where the file does not state it.
        value: Its bytes, or the items of a sequence.
        order: Its byte order, as `struct` writes it.
        implicit: Whether elements inside of it do not state their value representations.
    """

    kind: bytes
    value: bytes | Iterable[Dataset]
    order: str
    implicit: bool


Elements: TypeAlias = Mapping[int, Element]
"""Elements by tag."""


def walk(data: Bytes, at: int, implicit: bool, order: str, last: int, wanted: Collection[int]) -> tuple[dict[int, Element], int]:
    """Go from element to element.

    Args:
        data: The bytes they lie in.
        at: Where the first one begins.
        implicit: Whether they do not state their value representations.
        order: Their byte order, as `struct` writes it.
        last: The largest tag to read.
        wanted: The tags of those to keep; all others, private ones too, are stepped over.

    Returns:
        The elements, and where the first one with a larger tag begins, or the data end.

    Raises:
        ReadError: The data end inside an element.
    """
    stated, unstated, long = _UNPACK[order]
    found: dict[int, Element] = {}
    size = len(data)
    while at + 8 <= size:
        group, number, kind, length = stated(data, at)
        tag = group << 16 | number
        if tag > last:
            break
        begin = at + 8
        if implicit or not b"AA" <= kind <= b"ZZ":
            kind, length = b"", unstated(data, at)[2]
        elif kind in _LONG:
            begin = at + 12
            length = long(data, at + 8)[0] if begin <= size else size
        if length == _UNDEFINED:
            value, at = _delimited(data, at, implicit, order)
            if tag in wanted:
                found[tag] = Element(kind, value, order, implicit)
            continue
        at = begin + length
        if at > size:
            raise ReadError("truncated", "the file ends inside its DICOM header")
        if tag in wanted:
            found[tag] = Element(kind, data[begin:at], order, implicit)
    return found, at


def stream_of(data: Bytes) -> BinaryIO:
    """The bytes as a stream, without a copy."""
    return cast(BinaryIO, data) if isinstance(data, mmap.mmap) else io.BytesIO(data)


def raw(elements: Elements, tag: int) -> bytes:
    """The value of an element as it stands in the file; empty where there is none."""
    value = elements[tag].value if tag in elements else b""
    if not isinstance(value, bytes):
        raise ReadError("corrupt", "its DICOM header holds a sequence where a value must be")
    return value


def text(elements: Elements, tag: int) -> str:
    """The value of a text element without padding; empty where there is none."""
    return raw(elements, tag).decode("latin-1").strip(" \0")


def texts(elements: Elements, tag: int) -> list[str]:
    """The values of a text element."""
    value = text(elements, tag)
    return [one.strip(" \0") for one in value.split("\\")] if value else []


def decimals(elements: Elements, tag: int) -> list[float]:
    """The values of an element of decimal strings, or of binary numbers where the file writes them so."""
    if tag in elements and (code := {b"FD": "d", b"FL": "f"}.get(elements[tag].kind)):
        value = raw(elements, tag)
        return list(struct.unpack(f"{elements[tag].order}{len(value) // struct.calcsize(code)}{code}", value))
    return [float(one) for one in texts(elements, tag)]


def unsigned(elements: Elements, tag: int) -> tuple[int, ...]:
    """The values of an element of 16-bit numbers."""
    value = raw(elements, tag)
    count = len(value) // 2
    return struct.unpack(f"{elements[tag].order}{count}H", value[: 2 * count]) if count else ()


def items(elements: Elements, tag: int) -> list[Elements]:
    """The items of a sequence; none where there is none."""
    if tag not in elements:
        return []
    element = elements[tag]
    sequence = element.value
    if isinstance(sequence, bytes):
        little, size = element.order == "<", len(sequence)
        sequence = read_sequence(io.BytesIO(sequence), element.implicit, little, size, "latin-1") if size else ()
    return [{int(one.tag): _element(one) for one in item.elements()} for item in sequence]


def _element(one: Any) -> Element:
    """An element that pydicom has read."""
    if isinstance(one, RawDataElement):
        return Element((one.VR or "").encode(), one.value or b"", "<" if one.is_little_endian else ">", one.is_implicit_VR)
    return Element(one.VR.encode(), one.value, "<", False)


def _delimited(data: Bytes, at: int, implicit: bool, order: str) -> tuple[Any, int]:
    """The value of an element without a length, a sequence as a rule, and where it ends."""
    stream = stream_of(data)
    stream.seek(at)
    element = next(data_element_generator(stream, implicit, order == "<"), None)
    if element is None:
        raise ReadError("truncated", "the file ends inside its DICOM header")
    return element.value, stream.tell()
