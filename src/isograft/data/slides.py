"""Whole-slide images as tiles: where there is tissue, at one resolution, read from the slide whenever they are needed.

Slides are opened with OpenSlide (extra `slides`): SVS, NDPI, MRXS, SCN, BIF, VMS and tiled pyramids in TIFF. A tile is named by
where it lies, so the same slide and options give the same tiles with the same names: `x` and `y` are its corner in pixels of the
finest level (level 0), `size` its side there, `level` the level it is read from, `to` its side in pixels as it is used.
"""

from __future__ import annotations

import math
import os
import re
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from isograft.data.headers import HeaderError, sniff
from isograft.data.readers import Pixels, ReadError, read_bytes
from isograft.data.tissue import shares, tissue_mask
from isograft.errors import IsograftError
from isograft.extras import needed
from isograft.urls import suffix_of

if TYPE_CHECKING:
    from isograft.settings import ContentSettings

SLIDE_SUFFIXES = frozenset({".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide"})
_TIFF_SUFFIXES = (".tif", ".tiff")

_OVERVIEW = 2048
_LARGEST_READ = 1 << 14
_MOST_TILES = 1_000_000
_OPEN = 8
_PART = re.compile(r"x=(\d{1,9}),y=(\d{1,9}),size=(\d{1,6}),level=(\d{1,2}),to=(\d{1,5})")


class Tile(NamedTuple):
    """One tile of a slide.

    Attributes:
        x: Left edge in pixels of level 0.
        y: Top edge in pixels of level 0.
        size: Side in pixels of level 0.
        level: Level it is read from.
        to: Side in pixels as it is used.
    """

    x: int
    y: int
    size: int
    level: int
    to: int

    def __str__(self) -> str:
        return ",".join(f"{name}={value}" for name, value in zip(self._fields, self, strict=True))

    @classmethod
    def named(cls, part: str) -> Tile | None:
        """The tile that the part of an address names, or None."""
        found = _PART.fullmatch(part)
        return cls(*map(int, found.groups())) if found else None


def is_slide(path: str) -> bool:
    """Whether a file is a slide: by its suffix, or as a TIFF that is tiled and holds smaller copies of itself."""
    suffix = suffix_of(path)
    if suffix not in _TIFF_SUFFIXES:
        return suffix in SLIDE_SUFFIXES
    try:
        header = sniff(read_bytes(path, mapped=0))  # only its header is wanted, and this is asked before every TIFF is read
    except (ReadError, HeaderError):
        return False  # the reader of ordinary images says what is wrong
    return header is not None and header.pyramid


def tiles(path: str, settings: ContentSettings) -> list[Tile]:
    """The tiles of a slide that show tissue, row by row.

    Raises:
        ReadError: The slide cannot be opened, is coarser than asked, or shows no tissue.
        IsograftError: The slide does not state its resolution, and `--slide-resolution` does not either.
    """
    slide = _opened(path)
    finest = _resolution(path, slide, settings)
    if settings.microns_per_pixel < 0.99 * finest:
        raise ReadError(
            "unsupported",
            f"the slide has {finest:g} µm per pixel, coarser than the {settings.microns_per_pixel:g} of --microns-per-pixel",
        )
    width, height = slide.dimensions
    size = max(1, round(settings.tile_size * settings.microns_per_pixel / finest))
    if width // size * (height // size) > _MOST_TILES:
        raise ReadError("too_large", f"{width} x {height} pixels make more than {_MOST_TILES:,} tiles; choose a larger --tile-size")
    level = slide.get_best_level_for_downsample(size / settings.tile_size * 1.01)
    overview = _overview(slide)
    scale = overview.shape[1] / width
    columns, rows = np.arange(width // size) * size, np.arange(height // size) * size
    top, left = (axis.reshape(-1) for axis in np.meshgrid(rows, columns, indexing="ij"))
    kept = shares(tissue_mask(overview), left * scale, top * scale, size * scale) >= settings.tissue
    if not kept.any():
        raise ReadError("empty", f"no tile of {settings.tile_size} px shows {settings.tissue:.0%} tissue or more")
    return [Tile(int(x), int(y), size, level, settings.tile_size) for x, y in zip(left[kept], top[kept], strict=True)]


def read_tile(path: str, part: str, max_pixels: int) -> Pixels:
    """Read one tile: uint8 RGB (to, to, 3); what a scanner left out is white.

    Raises:
        ReadError: There is no such tile, or the slide cannot be read.
    """
    tile = Tile.named(part)
    if tile is None:
        raise ReadError("unsupported", f"'{part}' names no tile; a tile is x=...,y=...,size=...,level=...,to=...")
    slide = _opened(path)
    width, height = slide.dimensions
    inside = tile.x + tile.size <= width and tile.y + tile.size <= height and tile.size > 0 and tile.to > 0
    if not inside or tile.level >= slide.level_count:
        extent = f"{width} x {height} pixels on {slide.level_count} levels"
        raise ReadError("corrupt", f"the tile {part} lies outside of the slide, which has {extent}")
    side = max(1, round(tile.size / slide.level_downsamples[tile.level]))
    if side > _LARGEST_READ or max(side, tile.to) ** 2 > max_pixels:
        raise ReadError("too_large", f"the tile {part} takes {side} x {side} pixels, more than is read at once")
    region = _on_white(_region(slide, (tile.x, tile.y), tile.level, (side, side)))
    if side != tile.to:
        shrinks = side > tile.to
        region = cv2.resize(region, (tile.to, tile.to), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return Pixels(np.ascontiguousarray(region))


def _resolution(path: str, slide: Any, settings: ContentSettings) -> float:
    """Micrometres per pixel of level 0: what the slide states, or what the user says."""
    stated = [slide.properties.get(f"openslide.mpp-{axis}") for axis in "xy"]
    try:
        x, y = (float(value) for value in stated)
    except (TypeError, ValueError):
        x = y = math.nan
    if settings.slide_resolution is not None:
        return settings.slide_resolution
    if not (0 < x < 1000 and 0 < y < 1000):
        raise IsograftError(f"the slide {path} does not state its resolution; give it in µm per pixel with --slide-resolution")
    return math.sqrt(x * y)


def _overview(slide: Any) -> NDArray[np.uint8]:
    """The smallest level of at least 2,048 pixels, or the smallest there is, shrunk to at most that: uint8 (H, W, 3)."""
    fitting = [number for number, size in enumerate(slide.level_dimensions) if max(size) >= _OVERVIEW]
    level = fitting[-1] if fitting else 0
    width, height = slide.level_dimensions[level]
    if max(width, height) > _LARGEST_READ:
        raise ReadError("unsupported", f"its levels lack a small one: the smallest with enough detail has {width} x {height} pixels")
    picture = _on_white(_region(slide, (0, 0), level, (width, height)))
    scale = min(1.0, _OVERVIEW / max(width, height))
    return cv2.resize(picture, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA)  # type: ignore[no-any-return]


def _region(slide: Any, corner: tuple[int, int], level: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    openslide = needed("openslide", "slides")
    try:
        return np.asarray(slide.read_region(corner, level, size))
    except openslide.OpenSlideError as error:
        raise ReadError("corrupt", f"the slide cannot be read: {error}") from None


def _on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Compose on white: uint8 (H, W, 4) to (H, W, 3)."""
    alpha = rgba[..., 3:].astype(np.uint16)
    if (alpha == 255).all():
        return np.ascontiguousarray(rgba[..., :3])
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


_slides: OrderedDict[tuple[str, int, int], Any] = OrderedDict()
_lock = threading.Lock()


def _opened(path: str) -> Any:
    """The open slide; the last few stay open, as their tiles are read one by one. OpenSlide lets several threads read at a time."""
    openslide = needed("openslide", "slides")
    try:
        facts = os.stat(path)  # noqa: PTH116
        key = (path, facts.st_size, facts.st_mtime_ns)
        with _lock:
            if key in _slides:
                _slides.move_to_end(key)
            else:
                _slides[key] = openslide.OpenSlide(path)
                while len(_slides) > _OPEN:
                    _slides.popitem(last=False)
            return _slides[key]
    except openslide.OpenSlideUnsupportedFormatError:
        raise ReadError("unsupported", "OpenSlide knows no such slide, or a part of it is missing") from None
    except openslide.OpenSlideError as error:
        raise ReadError("corrupt", f"the slide cannot be opened: {error}") from None
    except OSError as error:
        raise ReadError("corrupt", f"cannot be opened: {error.strerror or error}") from None
