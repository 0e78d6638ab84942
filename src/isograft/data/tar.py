"""The index of a tar file: which members it has and where their bytes lie, without reading the bytes and without trusting the file.

`tarfile` knows the formats (ustar, GNU, pax) but ends silently where a header is broken, and follows what hostile headers say of sizes.
So it reads through a window that only moves forward and gives little at a time, and how it ended is looked at again.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Collection
from typing import NamedTuple

from isograft.data.readers import ReadError

BLOCK = tarfile.BLOCKSIZE

_MOST_MEMBERS = 1_000_000
_MOST_HEADER = 1 << 16  # bytes that one extended header may have
_MOST_KEPT = 1 << 16  # bytes of one member whose content is wanted
_MOST_KEPT_TOGETHER = 1 << 28
_MOST_TAIL = 1 << 22  # zeros behind the end; tar fills up to its record, 10,240 bytes as a rule
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_BROKEN = (tarfile.TarError, ValueError, OverflowError, IndexError, KeyError, RecursionError, EOFError)


class Member(NamedTuple):
    """Where the bytes of a member lie."""

    offset: int
    size: int


class Contents(NamedTuple):
    """What a tar file holds: its files in their order, by name, and the content of those that were wanted."""

    members: dict[str, Member]
    kept: dict[str, bytes]


class _Refused(Exception):  # noqa: N818
    """What tarfile asks for is not given."""


class Piecewise:
    """Something to be read in pieces, as the file that tarfile wants: forward only, a little at a time.

    Args:
        piece: Gives `count` bytes from `start` on, fewer at the end.
        size: Its size in bytes.
        block: How much is read at once; what lies in it costs no further reading.
    """

    def __init__(self, piece: Callable[[int, int], bytes], size: int, block: int) -> None:
        self.size = size
        self._piece = piece
        self._block = block
        self._at = self._last = self._start = 0
        self._held = b""

    def tell(self) -> int:
        """The place of the next byte."""
        return self._at

    def seek(self, place: int) -> int:
        """Go to a place."""
        self._at = place
        return place

    def read(self, count: int) -> bytes:
        """The next bytes: `count`, or fewer at the end.

        Raises:
            _Refused: That is too much for a header, or lies before what was read already.
        """
        if not 0 <= count <= _MOST_HEADER:
            raise _Refused(f"it has a header of {count:,} bytes")
        if self._at < self._last:
            raise _Refused("its headers lead backwards")
        self._last = self._at
        if not (self._start <= self._at and self._at + count <= self._start + len(self._held)):
            self._start = self._at
            self._held = self._piece(self._at, max(0, min(max(self._block, count), self.size - self._at)))
        data = self._held[self._at - self._start :][:count]
        self._at += len(data)
        return data


def scan(file: Piecewise, keep: Collection[str] = ()) -> Contents:
    """Index a tar file.

    Args:
        file: The file.
        keep: Endings (all behind the first dot of the name, in small letters) of the members whose content is wanted.

    Raises:
        ReadError: It is no plain tar file, is cut off or broken, or holds what a shard of images must not.
    """
    if not file.size:
        raise ReadError("empty", "the file has no bytes")
    found = Contents({}, {})
    kept = 0
    try:
        with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:  # type: ignore[call-overload]
            while (info := archive.next()) is not None:
                archive.members = []  # it would keep them all
                if not _wanted(info, file.size, found):
                    continue
                found.members[info.name] = Member(info.offset_data, info.size)
                if info.name.rpartition("/")[2].partition(".")[2].lower() in keep:
                    kept += info.size
                    found.kept[info.name] = _content(file, info, kept)
            end = archive.offset
    except _Refused as error:
        raise ReadError("corrupt", f"the tar is broken: {error}") from None
    except _BROKEN as error:
        cut = "unexpected end" in str(error) or "truncated" in str(error)
        reason = f"it is no plain tar file, or a broken one: {str(error) or type(error).__name__}"
        raise ReadError("truncated" if cut else "corrupt", reason) from None
    _check_end(file, end)
    return found


def _wanted(info: tarfile.TarInfo, size: int, found: Contents) -> bool:
    """Whether a member is a file; what no shard of images may hold is refused."""
    shown = repr(info.name[:200])
    parts = info.name.replace("\\", "/").split("/")
    if not info.name or parts[0] == "" or ".." in parts or parts[0].endswith(":"):
        raise ReadError("unsupported", f"its member {shown} leads out of the shard")
    if info.isdir():
        return False
    if info.issparse() or info.type not in _PLAIN:
        kinds = {tarfile.SYMTYPE: "a link", tarfile.LNKTYPE: "a link", tarfile.CHRTYPE: "a device", tarfile.BLKTYPE: "a device"}
        kind = "a sparse file" if info.issparse() else kinds.get(info.type, "no ordinary file")
        raise ReadError("unsupported", f"its member {shown} is {kind}")
    if info.size < 0 or info.offset_data + info.size > size:
        raise ReadError("truncated", f"its member {shown} says {info.size:,} bytes, more than there are")
    if info.name in found.members:
        raise ReadError("corrupt", f"it holds the member {shown} twice")
    if len(found.members) == _MOST_MEMBERS:
        raise ReadError("too_large", f"it has more than {_MOST_MEMBERS:,} members; split it")
    return True


def _content(file: Piecewise, info: tarfile.TarInfo, kept: int) -> bytes:
    if info.size > _MOST_KEPT or kept > _MOST_KEPT_TOGETHER:
        size = f"{info.size:,}" if info.size > _MOST_KEPT else f"{kept:,} (with those before it)"
        raise ReadError("too_large", f"its label {info.name[:200]!r} has {size} bytes")
    file.seek(info.offset_data)
    data = file.read(info.size)
    if len(data) < info.size:
        raise ReadError("truncated", f"it stops inside {info.name[:200]!r}")
    return data


def _check_end(file: Piecewise, end: int) -> None:
    """Tell a real end from a broken header, at which tarfile stops as well, and from one archive written behind another."""
    if end >= file.size:
        raise ReadError("truncated", "the tar stops before its end: it has no end-of-archive block")
    if file.size - end > _MOST_TAIL:
        raise ReadError("corrupt", f"{file.size - end:,} bytes lie behind the last member that can be read")
    while end < file.size:
        file.seek(end)
        data = file.read(min(_MOST_HEADER, file.size - end))
        if not data or data.strip(b"\0"):
            raise ReadError("corrupt", f"behind the last member that can be read, at byte {end:,}, lies something else")
        end += len(data)
