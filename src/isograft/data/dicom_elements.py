"""The elements of a DICOM file: read by tag, kept as raw bytes, turned into a value when one is asked for.

Nothing of a file reaches a message by way of a parser's complaint: values are never converted by pydicom, whose warnings
quote them.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any, BinaryIO, TypeAlias

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.filereader import read_dataset, read_sequence

from isograft.data.readers import ReadError

# Every file is judged by its row; what pydicom finds odd beside that it would print with the file's own values.
warnings.filterwarnings("ignore", module=r"pydicom\.")

Elements: TypeAlias = Mapping[int, RawDataElement | DataElement]
"""Elements by tag."""


def read_elements(
    stream: BinaryIO, implicit: bool, little: bool, stop: Callable[[int], bool], tags: Collection[int]
) -> dict[int, RawDataElement | DataElement]:
    """Read elements from where a stream stands, and leave it at the one that stops.

    Args:
        stream: The bytes.
        implicit: Whether they do not name their value representations.
        little: Whether they are little-endian.
        stop: Told a tag, says whether to end in front of it.
        tags: The elements to keep; all others, private ones too, are stepped over.
    """
    found = read_dataset(stream, implicit, little, stop_when=lambda tag, *_: stop(tag), specific_tags=list(tags))
    return {int(one.tag): one for one in found.elements()}


def raw(elements: Elements, tag: int) -> bytes:
    """The value of an element as it stands in the file; empty where there is none."""
    value: Any = elements[tag].value if tag in elements else None
    if not value:
        return b""
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
    element = elements.get(tag)
    if isinstance(element, RawDataElement) and element.VR in ("FD", "FL"):
        code, size = ("d", 8) if element.VR == "FD" else ("f", 4)
        value = raw(elements, tag)
        return list(struct.unpack(f"{order(elements, tag)}{len(value) // size}{code}", value))
    return [float(one) for one in texts(elements, tag)]


def unsigned(elements: Elements, tag: int) -> tuple[int, ...]:
    """The values of an element of 16-bit numbers."""
    value = raw(elements, tag)
    count = len(value) // 2
    return struct.unpack(f"{order(elements, tag)}{count}H", value[: 2 * count])


def order(elements: Elements, tag: int) -> str:
    """The byte order of an element, as `struct` writes it."""
    element = elements.get(tag)
    return ">" if isinstance(element, RawDataElement) and not element.is_little_endian else "<"


def items(elements: Elements, tag: int) -> list[dict[int, RawDataElement | DataElement]]:
    """The items of a sequence; none where there is none."""
    element = elements.get(tag)
    if element is None or not element.value:
        return []
    sequence: Any = element.value
    if isinstance(element, RawDataElement):
        stream = io.BytesIO(raw(elements, tag))
        sequence = read_sequence(stream, element.is_implicit_VR, element.is_little_endian, len(sequence), "latin-1")
    return [{int(one.tag): one for one in item.elements()} for item in sequence]


def cut_off(elements: Elements) -> bool:
    """Whether the value of some element is shorter than it says."""
    return any(
        isinstance(one, RawDataElement) and 0 < one.length < 0xFFFFFFFF and len(one.value or b"") < one.length for one in elements.values()
    )
