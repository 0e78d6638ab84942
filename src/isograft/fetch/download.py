"""Bring one file whole and checked, from where an earlier attempt stopped."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import BinaryIO, NamedTuple

from isograft.errors import IsograftError
from isograft.fetch.client import Client, Refused, Transient, content_length
from isograft.run import write_atomic

STARTS: dict[str, tuple[bytes, ...]] = {
    "image": (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "archive": (b"PK\x03\x04",),
}
"""How files of a kind begin. Whether an image decodes, ingest tells."""


class Spoiled(Exception):  # noqa: N818  (it is fetched once more)
    """What came is not what was announced."""


class Received(NamedTuple):
    """A whole file: its size in bytes and its SHA-256."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Item:
    """A file to fetch.

    Attributes:
        url: Where it is.
        target: Where it goes. Its folder exists.
        kind: A key of `STARTS`.
        limit: Most bytes to accept.
        size: How many bytes it has, where that is known.
        md5: Its MD5, where that is known.
    """

    url: str
    target: Path
    kind: str
    limit: int
    size: int | None = None
    md5: str | None = None


def download(client: Client, item: Item, part: Path, advance: Callable[[int], None] = lambda size: None) -> Received:
    """Fetch a file to its place, by way of `part`, which stays when this is interrupted and is continued the next time.

    Args:
        client: Who asks.
        item: What to fetch.
        part: Where it grows, on the disk of the target.
        advance: Told the number of bytes whenever some came.

    Raises:
        Refused: The file cannot be had, or twice was not what was announced.
        Stopped: The fetch is being stopped.
        IsograftError: The file cannot be written.
    """
    for last in (False, True):
        try:
            client.retry(lambda: _grow(client, item, part, advance), lambda: _size(part))
            received = _examine(item, part)
        except Spoiled as error:
            _discard(part)
            if last:
                raise Refused(f"{error}, twice") from None
        else:
            break
    try:
        part.replace(item.target)
    except OSError as error:
        raise _unwritable(item.target, error) from None
    _discard(part)
    return received


def _grow(client: Client, item: Item, part: Path, advance: Callable[[int], None]) -> None:
    """One attempt to fetch what is still missing of a file."""
    have, tag = _size(part), _tag(part, item.url)
    if have and item.size == have:
        return
    if have and not (tag or item.md5):  # nothing would tell if the file had become another one
        _discard(part)
        have = 0
    headers = {"Range": f"bytes={have}-", **({"If-Range": tag} if tag else {})} if have else {}
    try:
        response = client.open(item.url, headers)
    except Refused as error:
        if error.status != 416 or not have:
            raise
        if error.total == have:
            return
        _discard(part)
        raise Transient("the server has no such part of the file") from None
    with response:
        _write(client, item, part, response, have, advance)


def _write(client: Client, item: Item, part: Path, response: HTTPResponse, have: int, advance: Callable[[int], None]) -> None:
    """Append to `part` what comes, or start it again where the server sends the whole file."""
    if response.status == 206:
        if not re.match(rf"bytes {have}-\d+/", response.headers.get("Content-Range", "")):
            _discard(part)
            raise Transient("the server sends another part of the file than was asked for")
    elif response.status == 200:
        have = 0
    else:
        raise Refused(f"the server answers {response.status}", response.status)
    stated, most = content_length(response), item.limit if item.size is None else item.size
    if stated is not None and (have + stated > most or (item.size is not None and have + stated != item.size)):
        raise Spoiled(f"it has {have + stated:,} bytes, not {'at most ' if item.size is None else ''}the {most:,} announced")
    try:
        stream = part.open("ab" if have else "wb")
    except OSError as error:
        raise _unwritable(part, error) from None
    with stream:
        if not have:
            _remember_tag(part, item.url, response)
        for chunk in client.chunks(response):
            have += len(chunk)
            if have > most:
                raise Spoiled(f"it has more bytes than the {most:,} announced")
            _put(stream, chunk, part)
            advance(len(chunk))
        _flush(stream, part)
    if item.size is not None and have < item.size:
        raise Transient(f"the answer broke off after {have:,} of {item.size:,} bytes")


def _examine(item: Item, part: Path) -> Received:
    """Check a whole file: how it begins, and its MD5 where that is known."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with part.open("rb") as stream:
        start = stream.read(16)
        if not start.startswith(STARTS[item.kind]):
            raise Spoiled(f"it is no {item.kind} (it starts with {start.decode('ascii', 'replace')!r})")
        stream.seek(0)
        while chunk := stream.read(1 << 20):
            sha256.update(chunk)
            if item.md5 is not None:
                md5.update(chunk)
    if item.md5 is not None and md5.hexdigest() != item.md5:
        raise Spoiled(f"its MD5 is {md5.hexdigest()}, not {item.md5}")
    return Received(_size(part), sha256.hexdigest())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _tag_file(part: Path) -> Path:
    return part.with_name(part.name + ".tag")


def _tag(part: Path, url: str) -> str | None:
    """What the server called the version of the file of which `part` is the beginning."""
    try:
        noted = json.loads(_tag_file(part).read_bytes())
        return str(noted["tag"]) if noted["url"] == url else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember_tag(part: Path, url: str, response: HTTPResponse) -> None:
    tag = response.headers.get("ETag", "")
    _tag_file(part).unlink(missing_ok=True)
    if re.fullmatch(r'"[!-~]{1,200}"', tag):  # a weak one (W/) vouches for the meaning, not for the bytes
        write_atomic(_tag_file(part), json.dumps({"url": url, "tag": tag}))


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _tag_file(part).unlink(missing_ok=True)


def _put(stream: BinaryIO, chunk: bytes, part: Path) -> None:
    try:
        stream.write(chunk)
    except OSError as error:
        raise _unwritable(part, error) from None


def _flush(stream: BinaryIO, part: Path) -> None:
    try:
        stream.flush()
        os.fsync(stream.fileno())
    except OSError as error:
        raise _unwritable(part, error) from None


def _unwritable(path: Path, error: OSError) -> IsograftError:
    return IsograftError(f"cannot write {path}: {error.strerror or error}; free some space or choose another --out, and run fetch again")
