"""Tar shards in the layout of webdataset: the images in a tar file, here or behind a URL, read by their offsets.

A shard is indexed once per process and its members are read in pieces; nothing is ever written to a disk, so a member's name can lead
nowhere. Still names that are absolute or hold `..`, links, devices and sparse members are refused with the whole shard: whoever made it
had other things in mind. Compressed tars cannot be read, because every image would need all that lies before it to be unpacked.

A sample is what shares the name up to the first dot of the file name, its key: `a/001.jpg`, `a/001.cls`, `a/001.json`. The label stands in
`.cls` (text) or in the `label` of `.json`, the group in `group` or `patient`; further fields become further columns.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from isograft import console
from isograft.data import remote
from isograft.data.readers import IMAGE_SUFFIXES, ReadError
from isograft.data.sidecars import Columns, columns_of
from isograft.data.tar import BLOCK, Contents, Member, Piecewise, scan
from isograft.errors import IsograftError
from isograft.urls import is_url, suffix_of

SHARD_SUFFIX = ".tar"
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
NO_COMPRESSION = (
    "a compressed tar cannot be read at any place but its start; unpack it, or write it again as a plain .tar (images are compressed)"
)

_LABELS = ("cls", "json")
_LOCAL_BLOCK = 16 * BLOCK
_REMOTE_BLOCK = 1 << 20
_MOST_INDEXED = 500_000


def is_shard(file: str) -> bool:
    """Whether a path or URL is that of a tar file, by its name."""
    return suffix_of(file) == SHARD_SUFFIX or is_compressed(file)


def is_compressed(file: str) -> bool:
    """Whether a path or URL is that of a compressed tar file, by its name."""
    name = (file.partition("?")[0] if is_url(file) else file).lower()
    return name.endswith(COMPRESSED)


def members(file: str) -> list[tuple[str, Columns]]:
    """The images of a shard in their order, by name, and what the shard tells of each, by manifest column.

    Members that are neither images nor labels are named to the user and left out.

    Raises:
        ReadError: The shard cannot be used.
        Unreachable: It cannot be fetched.
        IsograftError: Two images share a key, a label cannot be read, or the server does not send pieces of a file.
    """
    contents = _scanned(file, keep=_LABELS)
    _indexes.keep(file, contents.members)
    samples: dict[str, dict[str, str]] = {}
    for name in contents.members:
        folder, slash, base = name.rpartition("/")
        stem, _, ending = base.partition(".")
        if stem or not ending:
            samples.setdefault(folder + slash + stem, {})[ending] = name
    found, passed_over = [], {name for name in contents.members if not name.rpartition("/")[2].startswith(".")}
    for key, endings in samples.items():
        image = _image_of(file, key, endings)
        if image is None:
            continue
        told = {ending.lower(): name for ending, name in endings.items() if ending.lower() in _LABELS}
        found.append((image, columns_of(file, {ending: (name, contents.kept[name]) for ending, name in told.items()})))
        passed_over -= {image, *told.values()}
    if not found:
        known = " ".join(sorted(IMAGE_SUFFIXES))
        raise ReadError("empty", f"the shard holds no image ({known}) among its {len(contents.members):,} members")
    if passed_over:
        console.say(f"{file}: {len(passed_over):,} members that are neither images nor labels were left out, such as {min(passed_over)}")
    return found


def read_member(file: str, name: str) -> bytes:
    """The bytes of a member.

    Raises:
        ReadError: The shard cannot be used, or has no such member.
        Unreachable: It cannot be fetched.
    """
    if not name:
        members(file)  # says what is wrong with it, if anything
        raise ReadError("unsupported", "a shard is no image, but one of its members is")
    index = _indexes.get(file)
    if name not in index:
        raise ReadError("corrupt", f"the shard has no member {name!r}")
    member = index[name]
    if not member.size:
        raise ReadError("empty", "the member has no bytes")
    data = read_bytes(file, *member)
    if len(data) < member.size:
        raise ReadError("truncated", f"the shard stops inside the member {name!r}")
    return data


def read_bytes(file: str, offset: int, size: int) -> bytes:
    """Bytes of a shard from a place on, fewer at its end.

    Raises:
        ReadError: The shard cannot be read.
        Unreachable: It cannot be fetched.
    """
    if is_url(file):
        return remote.fetch(file, offset, size)
    try:
        with Path(file).open("rb") as stream:
            stream.seek(offset)
            return stream.read(size)
    except OSError as error:
        raise ReadError("corrupt", f"the shard cannot be read: {error.strerror}") from None


def places(file: str) -> dict[str, Member]:
    """Where in a shard the bytes of its members lie, by name.

    Raises:
        ReadError: The shard cannot be used.
        Unreachable: It cannot be fetched.
    """
    return _indexes.get(file)


def _image_of(file: str, key: str, endings: dict[str, str]) -> str | None:
    """The image among the members of one sample; where there are `jpg` and `seg.png`, the plain ending is the image."""
    plain = [name for ending, name in endings.items() if f".{ending.lower()}" in IMAGE_SUFFIXES]
    images = plain or [name for ending, name in endings.items() if f".{ending.lower().rpartition('.')[2]}" in IMAGE_SUFFIXES]
    if len(images) > 1:
        raise IsograftError(
            f"{file} holds {len(images):,} images under one key, '{key}': {images[0]} and {images[1]}; "
            "the key is the name up to its first dot: rename them so that each image has its own"
        )
    return images[0] if images else None


def _scanned(file: str, keep: tuple[str, ...] = ()) -> Contents:
    if is_compressed(file):
        raise ReadError("unsupported", NO_COMPRESSION)
    if is_url(file):
        size = remote.length(file)
        return scan(Piecewise(lambda start, count: remote.fetch(file, start, count), size, _REMOTE_BLOCK), keep)
    try:
        with Path(file).open("rb") as stream:

            def piece(start: int, count: int) -> bytes:
                stream.seek(start)
                return stream.read(count)

            return scan(Piecewise(piece, os.fstat(stream.fileno()).st_size, _LOCAL_BLOCK), keep)
    except OSError as error:
        raise ReadError("corrupt", f"the shard cannot be read: {error.strerror}") from None


@dataclass(frozen=True)
class _Index:
    stamp: tuple[int, ...]
    members: dict[str, Member]


class _Indexes:
    """The indexes of the shards read last, half a million members at most (one shard always); each is made by one thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._making: dict[str, threading.Lock] = {}
        self._kept: OrderedDict[str, _Index] = OrderedDict()

    def get(self, file: str) -> dict[str, Member]:
        """The members of a shard by name; one here whose size or time changed is indexed again."""
        stamp = _stamp(file)
        with self._lock:
            making = self._making.setdefault(file, threading.Lock())
        with making:
            with self._lock:
                known = self._kept.get(file)
                if known is not None and known.stamp == stamp:
                    self._kept.move_to_end(file)
                    return known.members
            found = _scanned(file).members
            self.keep(file, found)
            return found

    def keep(self, file: str, members: dict[str, Member]) -> None:
        with self._lock:
            self._kept[file] = _Index(_stamp(file), members)
            self._kept.move_to_end(file)
            while len(self._kept) > 1 and sum(len(one.members) for one in self._kept.values()) > _MOST_INDEXED:
                gone, _ = self._kept.popitem(last=False)
                self._making.pop(gone, None)


def _stamp(file: str) -> tuple[int, ...]:
    if is_url(file):
        return ()
    try:
        facts = Path(file).stat()
    except OSError as error:
        raise ReadError("corrupt", f"cannot be opened: {error.strerror}") from None
    return facts.st_size, facts.st_mtime_ns


_indexes = _Indexes()
