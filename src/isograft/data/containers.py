"""The one door to pixels: ordinary image files, and files that hold several images, by the part an address names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from isograft.data import remote, shards
from isograft.data.address import Address
from isograft.data.files import is_dicom
from isograft.data.hashing import pixel_hash
from isograft.data.readers import Pixels, ReadError, decode_image, read_image
from isograft.data.slides import is_slide, read_tile, tiles
from isograft.settings import ContentSettings
from isograft.urls import is_url

CHANGED = "it has other pixels than when it was ingested; restore it, or ingest the data again"


class Part(NamedTuple):
    """One image of a file.

    Attributes:
        part: The `part` of its `Address`.
        columns: What the file itself tells of the image, by manifest column: `group`, `label`, or any further name.
        span: Where in the file its bytes begin and how many there are, of members of a tar shard.
        telling: The folders and the name in the file's path that name its patient; they are no label, and the user is warned.
    """

    part: str = ""
    columns: Mapping[str, str | None] = {}
    telling: frozenset[str] = frozenset()
    span: tuple[int, int] | None = None


def parts(file: str, settings: ContentSettings) -> list[Part]:
    """The images a file holds, in a fixed order; one without a name for an ordinary image.

    Raises:
        ReadError: The file cannot be used.
        Unreachable: It lies behind a URL and cannot be fetched.
        IsograftError: The file needs an option, or a package, that is not there, or what it tells of its images cannot be used.
    """
    if shards.is_shard(file):
        found = shards.members(file)
        spans = shards.places(file)
        return [Part(name, columns, span=spans[name]) for name, columns in found]
    if is_url(file):
        return [Part()]
    if is_dicom(file):
        from isograft.data.dicom import dicom_parts

        return dicom_parts(file, settings)
    if is_slide(file):
        return [Part(str(tile)) for tile in tiles(file, settings)]
    return [Part()]


def parts_or_reason(file: str, settings: ContentSettings) -> tuple[list[Part], ReadError | None]:
    """The images of a file; of one that cannot be used one without a name, and why."""
    try:
        return parts(file, settings), None
    except ReadError as error:
        return [Part()], error


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
    if is_dicom(address.file):
        from isograft.data.dicom import read_dicom

        return read_dicom(address, max_pixels)
    if address.part.startswith("x="):
        return read_tile(address.file, address.part, max_pixels)
    if is_slide(address.file):
        raise ReadError("unsupported", "a slide is read tile by tile; ingest it, and give the manifest")
    return read_image(address.file, max_pixels)


def read_unchanged(place: Address | Path | str, max_pixels: int, data: bytes | None = None) -> tuple[Pixels, str]:
    """Decode the image at an address, and make sure that it is the one that the address was made for.

    A member of a tar shard is read from where it lay at ingest: to look for it by its name, the whole shard would be gone through, and of
    a pool in hundreds of shards not all indexes are kept. Where something else lies there now, it is looked for by its name.

    Args:
        place: Where it lies; an address with a `pixel_hash` is held to it.
        max_pixels: As for `read`.
        data: The bytes of an ordinary image or a member of a tar shard, where they are at hand already.

    Returns:
        The image and its pixel hash.

    Raises:
        ReadError: The image cannot be used; with the status `changed`, it has other pixels than it had.
        Unreachable: It lies behind a URL and cannot be fetched.
    """
    address = Address.of(place)
    if data is None and (noted := _where_it_lay(address, max_pixels)):
        return noted
    pixels = read(address, max_pixels) if data is None else decode_image(data, max_pixels)
    found = pixel_hash(pixels.array)
    if address.pixel_hash not in (None, found):
        raise ReadError("changed", CHANGED)
    return pixels, found


def _where_it_lay(address: Address, max_pixels: int) -> tuple[Pixels, str] | None:
    """The image at the place that was noted at ingest, and its pixel hash; None where that image is not to be had there."""
    if address.span is None or address.pixel_hash is None:
        return None
    try:
        pixels = decode_image(shards.read_bytes(address.file, *address.span), max_pixels)
    except ReadError:
        return None
    found = pixel_hash(pixels.array)
    return (pixels, found) if found == address.pixel_hash else None
