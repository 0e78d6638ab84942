"""Decoded images at working size, in one file, so that training never decodes an original twice.

The file holds the uint8 RGB rows one after the other, lossless, then an index, then a trailer; images that would take more room
than all caches may are kept as JPEG of quality 95 instead. Rows are
read with `pread`, not mapped: a pool larger than memory costs the memory of the batch in hand. The file
is named by its content (pixel hashes, working size, format), so it serves every manifest that lists the
same images in whatever order, and it may be deleted at any time: a run that has it open goes on reading it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import polars as pl

from isograft.console import warn
from isograft.data.cache_build import GIGABYTE, JPEG_SHARE, SUFFIX, Entry, build_cache_file, bytes_needed
from isograft.data.cache_file import CacheFile, File, Originals
from isograft.errors import IsograftError
from isograft.settings.training import CACHE_LIMIT_GB
from isograft.unpickling import nothing_unpickled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from isograft.data.manifest import Manifest
    from isograft.data.preprocess import Preprocess

FORMAT_VERSION = 2

_MAGIC = b"ISOGRAFT"
# magic, format version, working size, images, bytes of pixels, key, checksum of the index
_TRAILER = struct.Struct("<8sIIQQ32sI")
_INDEX_COLUMNS = 5  # offset, height, width, bytes, CRC-32 of the bytes


class DamagedCacheError(Exception):
    """The cache file is not what its name promises; the message says why."""


@dataclass(frozen=True)
class _CacheKey:
    """What a cache holds: distinct pixel hashes in sorted order, the size they are scaled to, and whether they are coded as JPEG."""

    hashes: tuple[str, ...]
    working_size: int
    coded: bool

    @property
    def digest(self) -> bytes:
        digest = hashlib.sha256(f"isograft images {FORMAT_VERSION} {self.working_size} {'jpeg' if self.coded else 'raw'}\n".encode())
        digest.update("\n".join(self.hashes).encode())
        return digest.digest()

    def path(self, folder: Path) -> Path:
        return folder / f"images-{self.digest.hex()[:24]}{SUFFIX}"


class ImageCache(Sequence["NDArray[np.uint8]"]):
    """Read-only sequence of cached images, one per row of the manifest it was built for.

    `cache[i]` is uint8 (h, w, 3) RGB at working size, read-only; safe from several threads. A damaged image is made again from its
    original (see `isograft.data.cache_file`), so what it gives is right or an error.

    Attributes:
        path: the cache file.
        shapes: int64 (N, 2), height and width of every row in pixels.
    """

    def __init__(self, file: CacheFile, slots: NDArray[np.int64]) -> None:
        self.path = file.file.path
        self._file = file
        self._slots = slots
        self.shapes: NDArray[np.int64] = file.index[slots, 1:3]

    @classmethod
    def build(
        cls, manifest: Manifest, preprocess: Preprocess, cache_dir: Path, threads: int, limit_gb: float = CACHE_LIMIT_GB
    ) -> ImageCache:
        """Open the cache of these images, or make it.

        Args:
            manifest: usable rows only.
            preprocess: says the working size.
            cache_dir: folder of the caches; made when missing.
            threads: decoding threads.
            limit_gb: caches unused for longest are deleted until all fit into this many GB (10**9 bytes).

        Raises:
            IsograftError: a file cannot be decoded any more, or its pixels have changed since ingest;
                or the folder cannot be written or has no room.
        """
        hashes = manifest.frame["pixel_hash"]
        if hashes.null_count():
            row = hashes.is_null().arg_max()
            raise IsograftError(f"row {row} of the manifest has no pixel_hash; use only rows whose status is ok")
        slots = hashes.rank("dense").cast(pl.Int64).to_numpy() - 1
        first_rows = np.unique(slots, return_index=True)[1].tolist()
        coded = bytes_needed(manifest, first_rows, preprocess) > limit_gb * GIGABYTE
        key = _CacheKey(tuple(hashes[first_rows]), preprocess.working_size, coded)
        path, originals = key.path(cache_dir), Originals(manifest, first_rows, preprocess, coded)
        if path.exists():
            try:
                return cls._open(path, key, slots, originals)
            except DamagedCacheError as error:
                warn(f"the image cache {path} {error}; building it again")
        build_cache_file(path, manifest, first_rows, preprocess, threads, limit_gb, coded, lambda entries: _tail(key, entries))
        try:
            return cls._open(path, key, slots, originals)
        except DamagedCacheError as error:
            raise IsograftError(f"the image cache {path} {error} though just written; check the disk or change --cache-dir") from error

    @classmethod
    @nothing_unpickled("the image cache")
    def _open(cls, path: Path, key: _CacheKey, slots: NDArray[np.int64], originals: Originals) -> ImageCache:
        """Open and verify size, key and index; pixels are verified as they are read."""
        try:
            file = File(path)
            index, trailer = _read_index(file, key)
        except OSError as error:
            raise DamagedCacheError(f"cannot be read ({error.strerror})") from error
        # The time of last use orders the caches when room is needed; a folder we may only read is no reason to stop.
        with contextlib.suppress(OSError):
            os.utime(path)
        return cls(CacheFile(file, index, trailer, originals), slots)

    def select(self, rows: NDArray[np.int64] | Sequence[int]) -> ImageCache:
        """The same cache seen through these rows, in this order; shares the open file."""
        return ImageCache(self._file, self._slots[np.asarray(rows, np.int64)])

    def __len__(self) -> int:
        return len(self._slots)

    def __getitem__(self, row: int) -> NDArray[np.uint8]:  # type: ignore[override]  # no slices: `select` names rows
        slot = int(self._slots[row])
        height, width = self._file.index[slot, 1:3].tolist()
        pixels = np.frombuffer(self._file.stored(slot), np.uint8)
        decoded = cv2.imdecode(pixels, cv2.IMREAD_COLOR_RGB) if self._file.originals.coded else pixels
        return np.asarray(decoded, np.uint8).reshape(height, width, 3)


def exceeds(manifest: Manifest, preprocess: Preprocess, limit_gb: float) -> bool:
    """Whether a cache of these images would take more than the limit, even as JPEG."""
    rows = manifest.frame.select("pixel_hash").with_row_index().unique("pixel_hash", keep="first")["index"].to_list()
    return bytes_needed(manifest, rows, preprocess) * JPEG_SHARE > limit_gb * GIGABYTE


def _tail(key: _CacheKey, entries: Iterable[Entry]) -> bytes:
    """Index and trailer for images in slot order."""
    index = np.array([(0, *entry) for entry in entries], "<i8").reshape(-1, _INDEX_COLUMNS)
    sizes = index[:, 3]
    index[:, 0] = np.cumsum(sizes) - sizes
    table = index.tobytes()
    return table + _TRAILER.pack(_MAGIC, FORMAT_VERSION, key.working_size, len(index), int(sizes.sum()), key.digest, zlib.crc32(table))


def _read_index(file: File, key: _CacheKey) -> tuple[NDArray[np.int64], bytes]:
    """Verify the trailer; return the index, int64 (slots, 5), and the trailer."""
    if file.size < _TRAILER.size:
        raise DamagedCacheError("is too short")
    trailer = file.read(_TRAILER.size, file.size - _TRAILER.size)
    magic, version, _, count, data, digest, checksum = _TRAILER.unpack(trailer)
    if magic != _MAGIC or version != FORMAT_VERSION:
        raise DamagedCacheError("is cut short or is no image cache of this version")
    if digest != key.digest or count != len(key.hashes):
        raise DamagedCacheError("holds other images than its name says")
    table = file.read(count * _INDEX_COLUMNS * 8, data)
    if file.size != data + len(table) + _TRAILER.size or zlib.crc32(table) != checksum:
        raise DamagedCacheError("has a wrong size or a damaged index")
    return np.frombuffer(table, "<i8").reshape(-1, _INDEX_COLUMNS).astype(np.int64), trailer
