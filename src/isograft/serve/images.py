"""Uploaded bytes become pictures, in memory: by what they are, never by a name, and no path or URL is opened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from isograft.data.dicom import decode_dicom
from isograft.data.headers import HeaderError, begins_like_dicom, sniff
from isograft.data.preprocess import Preprocess
from isograft.data.readers import Pixels, ReadError, decode_image
from isograft.inference import Image, Picture, squared

MOST_FRAMES = 256
"""Frames of a DICOM file that are answered; longer ones are for `isograft predict`."""

ALL_FRAMES = 4
"""All frames of a file together may have so many times the pixels of the largest image."""


@dataclass(frozen=True)
class Upload:
    """One image of an uploaded file.

    Attributes:
        part: Which: empty, or `frame=3` of a DICOM file with several frames.
        pixels: The decoded image.
        picture: The square the network sees, its hash, and a note on how it was read.
    """

    part: str
    pixels: Pixels
    picture: Picture


@dataclass(frozen=True)
class Shown:
    """What is kept of an image while it waits for its answer.

    Attributes:
        part: Which of its file.
        id: As `predict` writes it.
        width: Of the whole image, in pixels.
        height: Of the whole image, in pixels.
        note: How an unusual file was read; empty for an ordinary one.
        square: uint8 (S, S, 3), what the network sees.
        unfit: Whether too little of it is left to judge, so that the model abstains.
    """

    part: str
    id: str
    width: int
    height: int
    note: str
    square: Image
    unfit: bool


def shown(upload: Upload) -> Shown:
    """The little of an image that is needed for its answer."""
    height, width = upload.pixels.array.shape[:2]
    picture = upload.picture
    assert picture.pixels is not None  # noqa: S101  (`squared` always has them)
    return Shown(upload.part, (picture.pixel_hash or "")[:16], width, height, picture.reason or "", picture.pixels, picture.unfit)


def uploads(data: bytes, preprocess: Preprocess, max_pixels: int) -> Iterator[Upload]:
    """The images of a file, with the pixels that `predict` gets of it.

    Args:
        data: All bytes of the file.
        preprocess: The model's preprocessing.
        max_pixels: Larger images (width x height) are refused by their header, before decoding.

    Raises:
        ReadError: The file cannot be used.
        IsograftError: It is a DICOM file, and the packages for those are not installed.
    """
    for part, pixels in _decoded(data, max_pixels):
        yield Upload(part, pixels, squared(pixels, preprocess))


def _decoded(data: bytes, max_pixels: int) -> Iterator[tuple[str, Pixels]]:
    if begins_like_dicom(data):  # first: the 128 bytes before its letters may be those of a TIFF, and no image begins like its data sets
        yield from decode_dicom(data, max_pixels, MOST_FRAMES, ALL_FRAMES * max_pixels)
        return
    try:
        header = sniff(data)
    except HeaderError:
        header = None  # `decode_image` tells what is wrong
    if header is not None and header.pyramid:
        raise ReadError("unsupported", "it is a whole-slide image, which is read tile by tile; use isograft predict")
    yield "", decode_image(data, max_pixels)
