"""What is a URL, and how much of one people may see.

A signed URL is a password: whoever has its query string has the file. So no message shows what stands behind the `?` of a URL, nor a
user or password before its `@`.
"""

from __future__ import annotations

import os
import re

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+://)(?:[^\s/?#]*@)?([^\s?#]*)(\?[^\s#]*)?")


def is_url(text: str) -> bool:
    """Whether a text is a URL rather than a path."""
    return _SCHEME.match(text) is not None


def is_web(url: str) -> bool:
    """Whether a URL is one of a web server; only those have query strings, and only in those `%` and `#` are written as codes already."""
    return url[:8].lower().startswith(("http://", "https://"))


def without_secrets(text: str) -> str:
    """The text, with the query string of every URL in it as `?...` and without users and passwords."""
    return _URL.sub(lambda found: found[1] + found[2] + ("?..." if found[3] else ""), text) if "://" in text else text


def without_query(url: str) -> str:
    """A URL of a web server without its query string, of which a bare `?` is left as a sign; any other place as it is."""
    if not is_web(url):
        return url
    front, mark, _ = url.partition("?")
    return front + mark


def url_name(url: str) -> str:
    """The last part of a URL's path."""
    return without_query(url).rstrip("?").rstrip("/").rpartition("/")[2]


def folder_and_name(url: str) -> tuple[str, str]:
    """The URL of the folder that something lies in, and its name in there, without the query string."""
    name = url_name(url)
    return without_query(url).rstrip("?").rstrip("/")[: -len(name) - 1], name


def suffix_of(place: str) -> str:
    """The ending of a path's or URL's file name, in small letters with its dot."""
    return os.path.splitext(url_name(place) if is_url(place) else place)[1].lower()  # noqa: PTH122
