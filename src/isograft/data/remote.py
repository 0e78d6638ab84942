"""Bytes that lie elsewhere: behind http(s)://, s3:// and gs:// URLs, in whole or in pieces, and what a bucket holds below a prefix."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from urllib.parse import urlsplit

from isograft.data import web
from isograft.data.address import Address
from isograft.errors import IsograftError
from isograft.urls import is_url, is_web

SCHEMES = ("http", "https", "s3", "gs", "gcs")
THREADS = 16
"""Threads that read remote images: they wait for the network most of the time, whatever the number of cores."""


def check(url: str) -> str:
    """The URL, if it can be one of an image.

    Raises:
        IsograftError: It is of an unknown kind, holds a password, or is not well formed.
    """
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in SCHEMES:
        raise IsograftError(f"{url} is of the kind {scheme}://, which cannot be read; use https://, http://, s3://, gs:// or a path")
    if not rest.strip("/"):
        raise IsograftError(f"{url} names no {'server' if is_web(url) else 'bucket'}; complete it")
    if is_web(url):
        if any(letter.isspace() for letter in url):
            raise IsograftError(f"{url.split()[0]}... has a space in it; write it as %20")
        if "#" in url:
            raise IsograftError(f"{url.partition('#')[0]} has a # behind it; write it as %23, or leave out what follows it")
        if "@" in rest.partition("/")[0].partition("?")[0]:
            raise IsograftError(f"{url} holds a user name or password, which a manifest must not; use a signed URL, or s3:// or gs://")
        try:
            _ = urlsplit(url).port
        except ValueError:
            raise IsograftError(f"{url} is no valid URL; correct it") from None
    return url


def fetch(url: str, start: int = 0, size: int | None = None) -> bytes:
    """What lies behind a URL, or `size` bytes of it from `start` on (fewer at its end).

    Raises:
        Unreachable: It cannot be had, after several tries.
        ReadError: It is too large (more than 1 GiB).
        IsograftError: A piece is wanted, and the server only sends the whole.
    """
    data: bytes = _door(check(url)).get(url, start, size)
    return data


def length(url: str) -> int:
    """How many bytes lie behind a URL.

    Raises:
        Unreachable: It cannot be had.
        IsograftError: The server does not send pieces of it.
    """
    size: int = _door(check(url)).length(url)
    return size


def below(url: str) -> list[str]:
    """The URLs of all objects below a prefix of a bucket, sorted; that of an object, and any of a web server, stands for itself.

    Hidden names (`.name`, `__MACOSX`) are passed over, as in folders.

    Raises:
        Unreachable: The bucket cannot be listed.
    """
    if is_web(check(url)):
        return [url]
    from isograft.data import buckets

    root = url.rstrip("/")
    return [one for one in buckets.below(url) if not _hidden(one[len(root) :])]


def io_threads(places: Sequence[Address | str], cores: int) -> int:
    """Threads that read images: as many as there are cores, or more where some of them lie elsewhere."""
    return max(cores, THREADS) if any(is_url(place if isinstance(place, str) else place.file) for place in places) else cores


def _door(url: str) -> ModuleType:
    if is_web(url):
        return web
    from isograft.data import buckets

    return buckets


def _hidden(path: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))
