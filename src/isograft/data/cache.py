"""Decoded images at working size, in one file, so that training never decodes an original twice.

The file holds the uint8 RGB rows one after the other, lossless, then an index, then a trailer; images that would take more room
than all caches may are kept as JPEG of quality 95 instead. Rows are
read with `pread`, not mapped: a pool larger than memory costs the memory of the batch in hand. The file
is named by its content (pixel hashes, working size, format), so it serves every manifest that lists the
same images in whatever order, and it may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import threading
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from isograft.console import warn
from isograft.data.cache_build import GIGABYTE, SUFFIX, Entry, build_cache_file, bytes_needed
from isograft.errors import IsograftError
from isograft.unpickling import nothing_unpickled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from isograft.data.manifest import Manifest
    from isograft.data.preprocess import Preprocess

FORMAT_VERSION = 2
CACHE_LIMIT_GB = 20.0

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

    `cache[i]` is uint8 (h, w, 3) RGB at working size, read-only; safe from several threads. The first
    reading of an image checks its checksum.

    Attributes:
        path: the cache file.
        shapes: int64 (N, 2), height and width of every row in pixels.
    """

    def __init__(
        self, path: Path, file: _File, index: NDArray[np.int64], slots: NDArray[np.int64], checked: NDArray[np.bool_], coded: bool
    ) -> None:
        self.path = path
        self._file = file
        self._index = index
        self._slots = slots
        self._checked = checked
        self._coded = coded
        self.shapes: NDArray[np.int64] = index[slots, 1:3]

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
        hashes = manifest.frame["pixel_hash"].to_list()
        if not all(hashes):
            row = [bool(value) for value in hashes].index(False)
            raise IsograftError(f"row {row} of the manifest has no pixel_hash; use only rows whose status is ok")
        slot_of = {value: slot for slot, value in enumerate(sorted(set(hashes)))}
        slots = np.array([slot_of[value] for value in hashes], np.int64)
        first_rows = np.unique(slots, return_index=True)[1].tolist()
        coded = bytes_needed(manifest, first_rows, preprocess) > limit_gb * GIGABYTE
        key = _CacheKey(tuple(slot_of), preprocess.working_size, coded)
        path = key.path(cache_dir)
        if path.exists():
            try:
                return cls._open(path, key, slots)
            except DamagedCacheError as error:
                warn(f"the image cache {path} {error}; building it again")
        build_cache_file(path, manifest, first_rows, preprocess, threads, limit_gb, coded, lambda entries: _tail(key, entries))
        try:
            return cls._open(path, key, slots)
        except DamagedCacheError as error:
            raise IsograftError(f"the image cache {path} {error} though just written; check the disk or change --cache-dir") from error

    @classmethod
    @nothing_unpickled("the image cache")
    def _open(cls, path: Path, key: _CacheKey, slots: NDArray[np.int64]) -> ImageCache:
        """Open and verify size, key and index; pixels are verified as they are read."""
        try:
            file = _File(path)
        except OSError as error:
            raise DamagedCacheError(f"cannot be read ({error.strerror})") from error
        index = _read_index(file, key)
        # The time of last use orders the caches when room is needed; a folder we may only read is no reason to stop.
        with contextlib.suppress(OSError):
            os.utime(path)
        return cls(path, file, index, slots, np.zeros(len(index), np.bool_), key.coded)

    def select(self, rows: NDArray[np.int64] | Sequence[int]) -> ImageCache:
        """The same cache seen through these rows, in this order; shares the open file."""
        return ImageCache(self.path, self._file, self._index, self._slots[np.asarray(rows, np.int64)], self._checked, self._coded)

    def __len__(self) -> int:
        return len(self._slots)

    def __getitem__(self, row: int) -> NDArray[np.uint8]:  # type: ignore[override]  # no slices: `select` names rows
        slot = self._slots[row]
        offset, height, width, size, checksum = self._index[slot].tolist()
        stored = self._file.read(size, offset)
        if not self._checked[slot] or len(stored) != size:
            if zlib.crc32(stored) != checksum:
                raise IsograftError(f"the image cache {self.path} is damaged (image {slot}); delete this file and run again")
            self._checked[slot] = True
        pixels = np.frombuffer(stored, np.uint8)
        decoded = cv2.imdecode(pixels, cv2.IMREAD_COLOR_RGB) if self._coded else pixels
        return np.asarray(decoded, np.uint8).reshape(height, width, 3)


class _File:
    """An open file that several threads read at different places; closed when nothing uses it."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("rb", buffering=0)
        self._lock = threading.Lock()
        self.size = os.fstat(self._stream.fileno()).st_size

    def read(self, count: int, offset: int) -> bytes:
        """Up to `count` bytes from `offset`, without moving a shared position."""
        if hasattr(os, "pread"):
            return os.pread(self._stream.fileno(), count, offset)
        with self._lock:  # systems without pread
            self._stream.seek(offset)
            return self._stream.read(count) or b""

    def __del__(self) -> None:
        if hasattr(self, "_stream"):
            self._stream.close()


def _tail(key: _CacheKey, entries: Iterable[Entry]) -> bytes:
    """Index and trailer for images in slot order."""
    index = np.array([(0, *entry) for entry in entries], "<i8").reshape(-1, _INDEX_COLUMNS)
    sizes = index[:, 3]
    index[:, 0] = np.cumsum(sizes) - sizes
    table = index.tobytes()
    return table + _TRAILER.pack(_MAGIC, FORMAT_VERSION, key.working_size, len(index), int(sizes.sum()), key.digest, zlib.crc32(table))


def _read_index(file: _File, key: _CacheKey) -> NDArray[np.int64]:
    """Verify the trailer and return the index, int64 (slots, 4)."""
    if file.size < _TRAILER.size:
        raise DamagedCacheError("is too short")
    magic, version, _, count, data, digest, checksum = _TRAILER.unpack(file.read(_TRAILER.size, file.size - _TRAILER.size))
    if magic != _MAGIC or version != FORMAT_VERSION:
        raise DamagedCacheError("is cut short or is no image cache of this version")
    if digest != key.digest or count != len(key.hashes):
        raise DamagedCacheError("holds other images than its name says")
    table = file.read(count * _INDEX_COLUMNS * 8, data)
    if file.size != data + len(table) + _TRAILER.size or zlib.crc32(table) != checksum:
        raise DamagedCacheError("has a wrong size or a damaged index")
    return np.frombuffer(table, "<i8").reshape(-1, _INDEX_COLUMNS).astype(np.int64)
