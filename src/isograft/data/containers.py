"""The one door to pixels: ordinary image files, and files that hold several images, by the part an address names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from isograft.data.address import Address
from isograft.data.files import is_dicom
from isograft.data.readers import Pixels, read_image
from isograft.settings import IngestSettings


class Part(NamedTuple):
    """One image of a file.

    Attributes:
        part: The `part` of its `Address`.
        columns: What the file itself tells of the image, by manifest column: `group`, `label`, or any further name.
        telling: The folders and the name in the file's path that name its patient; they are no label, and the user is warned.
    """

    part: str = ""
    columns: Mapping[str, str | None] = {}
    telling: frozenset[str] = frozenset()


def parts(file: str, settings: IngestSettings) -> list[Part]:
    """The images a file holds, in a fixed order; one without a name for an ordinary image.

    Raises:
        ReadError: The file cannot be used.
        IsograftError: The file needs an option, or a package, that is not there.
    """
    if is_dicom(file):
        from isograft.data.dicom import dicom_parts

        return dicom_parts(file, settings)
    return [Part()]


def read(place: Address | Path | str, max_pixels: int) -> Pixels:
    """Decode the image at an address.

    Args:
        place: Where it lies.
        max_pixels: Larger images (width x height) are refused by their header, before decoding.

    Raises:
        ReadError: The image cannot be used.
    """
    address = Address.of(place)
    if is_dicom(address.file):
        from isograft.data.dicom import read_dicom

        return read_dicom(address, max_pixels)
    return read_image(address.file, max_pixels)
