"""The open file of an image cache: every image is checked before it is used, and a damaged one is made again from its original.

A checksum costs 2 to 8 % of rendering an image's views, asking for the file's time stamp less than 1 % (`benchmarks/cache_check.py`).
So an image is checked when it is first read, once more when the file has been written to since, and at every reading once damage was
met. What stays unseen is a medium that gives other bytes at a later reading without anyone having written them.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from isograft.console import warn
from isograft.data.cache_build import decode_working
from isograft.errors import IsograftError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from isograft.data.manifest import Manifest
    from isograft.data.preprocess import Preprocess

Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Originals:
    """Where the images of a cache come from.

    Attributes:
        manifest: Usable rows.
        rows: A row of it for every slot of the cache.
        preprocess: Says the working size.
        coded: Whether images are kept as JPEG.
    """

    manifest: Manifest
    rows: Sequence[int]
    preprocess: Preprocess
    coded: bool

    def stored(self, slot: int) -> bytes:
        """What the cache holds of an image, made anew.

        Raises:
            IsograftError: The original cannot be read any more, or is another image.
        """
        one = self.manifest.take(np.array([self.rows[slot]], np.int64))
        height, width = one.frame.select("height", "width").row(0)
        return bytes(decode_working(one.addresses()[0], int(height) * int(width), self.preprocess, self.coded)[1])


class CacheFile:
    """The images of a cache by slot, as they are stored; safe from several threads.

    Args:
        file: The open file.
        index: int64 (slots, 5): offset, height, width, bytes, CRC-32 of the bytes.
        trailer: What follows the index.
        originals: Where damaged images are made from again.
    """

    def __init__(self, file: File, index: NDArray[np.int64], trailer: bytes, originals: Originals) -> None:
        self.file, self.index, self.originals = file, index, originals
        self._trailer = trailer
        self._lock = threading.Lock()
        self._told = False  # whether damage was seen; from then on everything is checked
        self._stamp = file.stamp()
        self._generation = 1  # counts how often the file was seen to have been written to
        self._checked = np.zeros(len(index), np.int64)  # the generation in which each image was found sound

    def stored(self, slot: int) -> bytes:
        """The bytes of an image, checked.

        Raises:
            IsograftError: They are damaged, and the original is not there any more to make them from.
        """
        offset, _, _, size, checksum = self.index[slot].tolist()
        before = self._current()
        try:
            found = self.file.read(size, offset)
        except OSError:
            found = b""
        generation = self._current()
        # Bytes read just before another thread or process mended them are those of a file that is sound by now, so they are checked.
        unsure = self._told or before != generation or self._checked[slot] != generation
        if unsure or len(found) != size:
            if len(found) != size or zlib.crc32(found) != checksum:
                return self._mended(slot)
            self._checked[slot] = generation
        return found

    def _current(self) -> int:
        stamp = self.file.stamp()
        if stamp != self._stamp:
            with self._lock:
                if stamp != self._stamp:
                    self._stamp = stamp
                    self._generation += 1
        return self._generation

    def _mended(self, slot: int) -> bytes:
        """Make an image again, and write it to its place where that is allowed."""
        path, (offset, _, _, size, checksum) = self.file.path, self.index[slot].tolist()
        with self._lock:
            if not self._told:
                self._told = True
                warn(f"the image cache {path} has been damaged; what is damaged is decoded again from the original images")
        try:
            made = self.originals.stored(slot)
        except IsograftError as error:
            raise IsograftError(f"the image cache {path} has been damaged, and {error}") from error
        if len(made) != size or zlib.crc32(made) != checksum:
            raise IsograftError(
                f"the image cache {path} has been damaged, and other software than now has made it: delete this file and start anew"
            )
        with suppress(OSError):
            self.file.write(made, offset)
            data = int(self.index[:, 3].sum())
            tail = self.index.astype("<i8").tobytes() + self._trailer
            if self.file.stamp()[0] < data + len(tail):
                self.file.write(tail, data)
        return made


class File:
    """A file that several threads read at different places, and perhaps write to; closed when nothing uses it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._stream = path.open("r+b", buffering=0)
        except OSError:  # a cache that we may only read
            self._stream = path.open("rb", buffering=0)
        self._lock = threading.Lock()
        self.size = self.stamp()[0]

    def stamp(self) -> Stamp:
        """Size in bytes, and when it was written to last, in nanoseconds: changes whenever somebody writes to it."""
        facts = os.fstat(self._stream.fileno())
        return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns

    def read(self, count: int, offset: int) -> bytes:
        """Up to `count` bytes from `offset`, without moving a shared position."""
        if hasattr(os, "pread"):
            return os.pread(self._stream.fileno(), count, offset)
        with self._lock:  # systems without pread
            self._stream.seek(offset)
            return self._stream.read(count) or b""

    def write(self, data: bytes, offset: int) -> None:
        """Write at `offset`.

        Raises:
            OSError: It may not be written to, or the disk is full.
        """
        with self._lock:
            self._stream.seek(offset)
            rest = memoryview(data)
            while rest:
                rest = rest[self._stream.write(rest) :]

    def __del__(self) -> None:
        if hasattr(self, "_stream"):
            self._stream.close()
