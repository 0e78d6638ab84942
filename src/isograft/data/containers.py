"""The one door to pixels: ordinary image files, and files that hold several images, by the part an address names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from isograft.data import remote, shards
from isograft.data.address import Address
from isograft.data.readers import Pixels, decode_image, read_image
from isograft.settings import IngestSettings


class Part(NamedTuple):
    """One image of a file.

    Attributes:
        part: The `part` of its `Address`.
        columns: What the file itself tells of the image, by manifest column: `group`, `label`, or any further name.
    """

    part: str = ""
    columns: Mapping[str, str | None] = {}


def parts(file: str, settings: IngestSettings) -> list[Part]:
    """The images a file holds, in a fixed order; one without a name for an ordinary image.

    Raises:
        ReadError: The file cannot be used.
        Unreachable: It lies behind a URL and cannot be fetched.
        IsograftError: The file needs an option, or a package, that is not there, or what it tells of its images cannot be used.
    """
    if shards.is_shard(file):
        return [Part(*member) for member in shards.members(file)]
    return [Part()]


def read(place: Address | Path | str, max_pixels: int) -> Pixels:
    """Decode the image at an address.

    Args:
        place: Where it lies.
        max_pixels: Larger images (width x height) are refused by their header, before decoding.

    Raises:
        ReadError: The image cannot be used.
        Unreachable: It lies behind a URL and cannot be fetched.
    """
    address = Address.of(place)
    if shards.is_shard(address.file):
        return decode_image(shards.read_member(address.file, address.part), max_pixels)
    if address.remote:
        return decode_image(remote.fetch(address.file), max_pixels)
    return read_image(address.file, max_pixels)
