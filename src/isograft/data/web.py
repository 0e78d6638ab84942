"""Bytes from web servers (http and https), through the standard library: nothing to install, and every limit is ours.

A request is tried several times, with growing random waits, when the connection breaks, nothing comes in time, the body is cut off, or
the server says that it is busy (408, 425, 429, 5xx); its Retry-After is honoured. Redirects lead to http and https only.
"""

from __future__ import annotations

import http.client
import random
import re
import ssl
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import IO, Any
from urllib.parse import quote, urlsplit

from isograft.data.hosts import hosts
from isograft.data.readers import ReadError
from isograft.errors import IsograftError, Unreachable

MOST_BYTES = 1 << 30
"""More is never read of one answer, whatever it says of its length."""

_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_CHUNK = 1 << 16
_LEGAL = "%/:=&?~#+!$,;'@()*[]-._"
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for.

    Attributes:
        tries: Requests at most, for one answer.
        first_wait: Longest wait before the second try, in seconds; it doubles from try to try.
        longest_wait: Longest wait before any try, in seconds.
        silence: Seconds without a byte after which a connection counts as broken.
        slowest: Bytes per second that a body must bring, after the first `silence` seconds.
        total: Seconds after which no further try begins.
    """

    tries: int = 5
    first_wait: float = 0.5
    longest_wait: float = 30.0
    silence: float = 20.0
    slowest: float = 10_000.0
    total: float = 120.0


PATIENCE = Patience()


class _TemporaryFailure(Exception):  # noqa: N818  (it may pass)
    """A failure that may not come again; `wait` is what the server asks for, in seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def get(url: str, start: int = 0, size: int | None = None) -> bytes:
    """What lies behind a URL, or `size` bytes of it from `start` on (fewer at its end).

    Raises:
        Unreachable: It cannot be had.
        ReadError: It is larger than `MOST_BYTES`, or shorter than `start`.
        IsograftError: A piece is wanted and the server only sends the whole.
    """
    if size is None:
        return _patient(url, None)[0]
    if size > MOST_BYTES:
        raise ReadError("too_large", f"{size:,} bytes, more than the limit of {MOST_BYTES:,}")
    return _patient(url, (start, size))[0] if size else b""


def length(url: str) -> int:
    """How many bytes lie behind a URL, told by a request for the first one, which shows as well whether the server gives pieces."""
    return _patient(url, (0, 1))[1]


def _patient(url: str, piece: tuple[int, int] | None) -> tuple[bytes, int]:
    """The bytes, and how many the whole has; tried until it works or `PATIENCE` ends."""
    patience, began = PATIENCE, time.monotonic()
    host = urlsplit(url).netloc
    hosts.check(host, url)
    for tried in range(1, patience.tries + 1):
        try:
            answer = _once(url, piece)
        except _TemporaryFailure as failure:
            ceiling = min(patience.longest_wait, patience.first_wait * 2 ** (tried - 1))
            wait = random.uniform(ceiling / 2, ceiling) if failure.wait is None else failure.wait  # noqa: S311
            if tried == patience.tries or time.monotonic() + wait - began > patience.total:
                hosts.failed(host)
                asked = f", which asks to wait {failure.wait:,.0f} s" if failure.wait and tried < patience.tries else ""
                raise Unreachable(url, f"{failure}{asked} ({tried} {'tries' if tried > 1 else 'try'})") from None
            time.sleep(wait)
        except (IsograftError, ReadError):
            hosts.answered(host)
            raise
        else:
            hosts.answered(host)
            return answer
    raise AssertionError("the last try returns or raises")


def _once(url: str, piece: tuple[int, int] | None) -> tuple[bytes, int]:
    headers = {"User-Agent": "isograft", "Accept-Encoding": "identity"}
    if piece is not None:
        headers["Range"] = f"bytes={piece[0]}-{piece[0] + piece[1] - 1}"
    try:
        request = urllib.request.Request(quote(url, safe=_LEGAL), headers=headers)  # noqa: S310  (the opener knows http and https only)
        with _opener().open(request, timeout=PATIENCE.silence) as response:
            return _whole(url, response) if piece is None else _piece(url, response, *piece)
    except urllib.error.HTTPError as error:
        error.close()
        _judge(url, error, piece)
    except urllib.error.URLError as error:
        cause = error.reason
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise Unreachable(url, f"the server's certificate cannot be trusted ({cause.verify_message})") from None
        raise _TemporaryFailure(_words(cause)) from None
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, http.client.InvalidURL):
            raise Unreachable(url, "this is no valid URL", gone=True) from None
        raise _TemporaryFailure(_words(error)) from None
    except ValueError:
        raise Unreachable(url, "this is no valid URL", gone=True) from None
    raise AssertionError("every answer returns or raises")


def _judge(url: str, error: urllib.error.HTTPError, piece: tuple[int, int] | None) -> None:
    """Raise what an HTTP status means."""
    said = f"HTTP {error.code} {http.client.responses.get(error.code, '')}".strip()
    if error.code in _BUSY:
        raise _TemporaryFailure(f"the server answers {said}", _retry_after(error.headers.get("Retry-After")))
    if error.code == 416 and piece is not None:
        raise ReadError("truncated", f"it has no bytes from {piece[0]:,} on")
    if error.code in (401, 403):
        raise Unreachable(url, f"the server refuses it ({said}; a signed URL may have expired)")
    raise Unreachable(url, f"the server answers {said}", gone=error.code in (404, 410))


def _whole(url: str, response: Any) -> tuple[bytes, int]:
    if response.status != 200:
        raise Unreachable(url, f"the server answers HTTP {response.status} in place of the file")
    if (coding := response.headers.get("Content-Encoding", "identity").lower()) != "identity":
        raise Unreachable(url, f"the server sends it in the coding '{coding}', which was not asked for")
    data = _body(response, MOST_BYTES)
    return data, len(data)


def _piece(url: str, response: Any, start: int, size: int) -> tuple[bytes, int]:
    found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if response.status != 206 or found is None or int(found[1]) != start:
        raise IsograftError(f"the server of {url} does not send pieces of a file (range requests), without which a shard cannot be read; "
                            "copy the shard to this machine or to a bucket")  # fmt: skip
    data = _body(response, size)
    wanted = min(size, int(found[3]) - start)
    if len(data) != wanted:
        raise _TemporaryFailure(f"the answer stopped after {len(data):,} of {wanted:,} bytes")
    return data, int(found[3])


def _body(response: Any, limit: int) -> bytes:
    """The body, in whole: its stated length is checked while it comes in, and neither more than `limit` nor a trickle is taken."""
    stated = response.headers.get("Content-Length", "")
    expected = int(stated) if stated.isdecimal() else None
    received, began, data = 0, time.monotonic(), bytearray()
    while expected is None or received < expected:
        if max(received, expected or 0) > limit:
            raise ReadError("too_large", f"the answer has {'at least ' if expected is None else ''}{max(received, expected or 0):,} bytes, "
                                         f"more than the limit of {limit:,}")  # fmt: skip
        chunk = response.read1(_CHUNK if expected is None else min(_CHUNK, expected - received))
        if not chunk:
            break
        data += chunk
        received += len(chunk)
        if time.monotonic() - began > PATIENCE.silence + received / PATIENCE.slowest:
            raise _TemporaryFailure(f"the answer comes too slowly: {received:,} bytes in {time.monotonic() - began:.0f} s")
    if expected is not None and received < expected:
        raise _TemporaryFailure(f"the answer stopped after {received:,} of {expected:,} bytes")
    return bytes(data)


def _retry_after(text: str | None) -> float | None:
    """Seconds that a Retry-After header asks to wait: a number of them, or a date."""
    if not text:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _words(cause: object) -> str:
    """What broke, without the URL."""
    if isinstance(cause, TimeoutError):
        return f"nothing came for {PATIENCE.silence:g} s"
    if isinstance(cause, http.client.RemoteDisconnected):
        return "the server closed the connection without an answer"
    if isinstance(cause, http.client.IncompleteRead):
        return f"the answer stopped after {len(cause.partial):,} bytes"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return type(cause).__name__


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects to http and https only, ten at most, and read none of their bodies."""

    def redirect_request(self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str) -> Any:
        fp.close()  # urllib reads what is left of it, which may be without end
        if urlsplit(newurl).scheme.lower() not in ("http", "https"):
            raise Unreachable(req.full_url, f"the server points to a {urlsplit(newurl).scheme} address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_openers = threading.local()


def _opener() -> urllib.request.OpenerDirector:
    """This thread's opener for http and https, and no other scheme; proxies are those of the environment."""
    if not hasattr(_openers, "one"):
        opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler(),
            urllib.request.HTTPErrorProcessor(), urllib.request.HTTPDefaultErrorHandler(), _Redirects(),
        ):  # fmt: skip
            opener.add_handler(handler)
        _openers.one = opener
    found: urllib.request.OpenerDirector = _openers.one
    return found
