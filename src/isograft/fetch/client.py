"""HTTP as fetch needs it: only http and https, answers of bounded size, patience with servers that drop, throttle or stall."""

from __future__ import annotations

import json
import math
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse
from typing import Any, TypeVar
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from isograft._version import __version__

CHUNK = 1 << 16
PROGRESS = 1 << 16
"""An attempt that brought this many bytes was no failure: a long file may be dropped many times, as long as it grows."""

LARGEST_JSON = 32 << 20
_PASSING = {408, 425, 429}

T = TypeVar("T")


class Transient(Exception):  # noqa: N818  (not an error yet: it is tried again)
    """An attempt failed in a way that may pass.

    Attributes:
        wait: Seconds the server asked to wait, or None.
    """

    def __init__(self, text: str, wait: float | None = None) -> None:
        super().__init__(text)
        self.wait = wait


class Refused(Exception):  # noqa: N818  (one file's fate; the fetch goes on)
    """The server's answer cannot be used, and asking again does not change it.

    Attributes:
        status: The HTTP status, or None.
        total: What the server says the whole file has, in bytes, where it refuses a part of it.
    """

    def __init__(self, text: str, status: int | None = None, total: int | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.total = total


class Unreachable(Refused):
    """Every attempt failed: the server may be down, or the network."""


class Stopped(Exception):  # noqa: N818
    """The fetch is being stopped."""


class _Redirects(request.HTTPRedirectHandler):
    def redirect_request(self, req: request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> request.Request | None:
        check_url(newurl, secure=req.full_url.startswith("https:"))
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class Client:
    """Asks servers; one for all threads of a fetch.

    Proxies are those of the system, as `urllib` finds them. Certificates are always verified.

    Args:
        timeout: Seconds without any byte after which an attempt has failed.
        attempts: Failures in a row, without progress, after which a file is given up.
        backoff: Seconds before the second attempt; doubled for each further one.
        longest_wait: Most seconds to wait when the server asks for it; more is given up.
        stall: Seconds in which at least 1 KiB per second must come on average.
    """

    def __init__(self, timeout: float = 30, attempts: int = 6, backoff: float = 1, longest_wait: float = 600, stall: float = 60) -> None:
        self.timeout = timeout
        self.attempts = attempts
        self.backoff = backoff
        self.longest_wait = longest_wait
        self.stall = stall
        self.stop = threading.Event()
        self._not_before = 0.0  # all threads wait when the server asks one of them to
        self._opener = request.OpenerDirector()  # not build_opener, which would open file: and ftp: as well
        for handler in (
            request.ProxyHandler(),
            request.HTTPHandler(),
            request.HTTPSHandler(),
            request.HTTPDefaultErrorHandler(),
            _Redirects(),
            request.HTTPErrorProcessor(),
            request.UnknownHandler(),
        ):
            self._opener.add_handler(handler)
        self._opener.addheaders = [("User-Agent", f"isograft/{__version__}")]

    def open(self, url: str, headers: dict[str, str] | None = None) -> HTTPResponse:
        """Ask once.

        Raises:
            Transient: No connection, a server error, or too many requests.
            Refused: Any other status, or a url or redirect that is not allowed.
        """
        check_url(url)
        try:
            response: HTTPResponse = self._opener.open(request.Request(url, headers=headers or {}), timeout=self.timeout)  # noqa: S310
        except HTTPError as error:
            with error:
                raise _judged(error) from None
        except URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise Refused(f"its certificate cannot be verified ({error.reason.verify_message})") from None
            raise Transient(f"no connection ({error.reason})") from None
        except (OSError, HTTPException) as error:
            raise Transient(f"the connection broke ({_brief(error)})") from None
        return response

    def chunks(self, response: HTTPResponse) -> Iterator[bytes]:
        """The body as it comes.

        Raises:
            Transient: It broke off, or comes too slowly.
            Stopped: The fetch is being stopped.
        """
        stated, got = content_length(response), 0
        began, since = time.monotonic(), 0
        while True:
            if self.stop.is_set():
                raise Stopped
            try:
                chunk = response.read1(CHUNK)
            except (OSError, HTTPException) as error:
                raise Transient(f"the connection broke ({_brief(error)})") from None
            if not chunk:
                break
            got += len(chunk)
            since += len(chunk)
            yield chunk
            if (elapsed := time.monotonic() - began) > self.stall:
                if since < 1024 * elapsed:
                    raise Transient(f"only {since:,} bytes came in {elapsed:.0f} s")
                began, since = time.monotonic(), 0
        if stated is not None and got < stated:
            raise Transient(f"the answer broke off after {got:,} of {stated:,} bytes")

    def retry(self, work: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
        """Do `work` until it succeeds.

        Args:
            work: One attempt.
            progress: How many bytes are there by now; an attempt that added some does not count as a failure.

        Raises:
            Unreachable: It failed `attempts` times in a row.
            Stopped: The fetch is being stopped.
        """
        failures, before = 0, progress()
        while True:
            self._pause(self._not_before - time.monotonic())
            try:
                return work()
            except Transient as error:
                now = progress()
                failures, before = 1 if now - before >= PROGRESS else failures + 1, now
                if failures >= self.attempts:
                    raise Unreachable(f"{error}, {failures} times in a row") from None
                if error.wait is None:
                    self._pause(min(self.backoff * 2 ** (failures - 1), 60))
                elif error.wait > self.longest_wait:
                    raise Unreachable(f"{error}, and the server asks to wait {error.wait:,.0f} s") from None
                else:
                    self._not_before = max(self._not_before, time.monotonic() + error.wait)

    def json(self, url: str) -> Any:
        """The JSON document at a url, of at most `LARGEST_JSON` bytes.

        Raises:
            Refused: It cannot be had, or is no JSON.
            Stopped: The fetch is being stopped.
        """
        return self.retry(lambda: self._json(url))

    def _json(self, url: str) -> Any:
        body = bytearray()
        with self.open(url, {"Accept": "application/json"}) as response:
            for chunk in self.chunks(response):
                body += chunk
                if len(body) > LARGEST_JSON:
                    raise Refused(f"the answer is larger than {LARGEST_JSON >> 20} MiB")
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            start = bytes(body[:40]).decode("ascii", "replace")
            raise Transient(f"the answer is no JSON (it starts with {start!r})") from None  # a proxy's page, mostly: it may pass

    def _pause(self, seconds: float) -> None:
        if self.stop.wait(max(seconds, 0)):
            raise Stopped


def check_url(url: str, secure: bool = False) -> None:
    """Refuse a url that is not plain http or https, or not https where `secure`.

    Raises:
        Refused: It is not.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in (("https",) if secure else ("http", "https")) and bool(parts.hostname) and parts.username is None
        good = good and parts.port != 0
    except ValueError:
        good = False
    if not (good and url.isascii() and url.isprintable() and " " not in url and len(url) <= 4096):
        raise Refused(f"the address {url[:100]!r} is not a plain {'https' if secure else 'http or https'} address")


def content_length(response: HTTPResponse) -> int | None:
    """The length of the body as stated, or None."""
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _judged(error: HTTPError) -> Exception:
    if error.code in _PASSING or error.code >= 500:
        return Transient(f"the server answers {error.code} {error.reason}", _retry_after(error.headers.get("Retry-After")))
    if 300 <= error.code < 400:
        return Refused("it redirects in circles, or to where it must not", error.code)
    total = str(error.headers.get("Content-Range", "")).rpartition("*/")[2]
    return Refused(f"the server answers {error.code} {error.reason}", error.code, int(total) if total.isdigit() else None)


def _retry_after(text: str | None) -> float | None:
    """Seconds, from a number of them or from a date."""
    if not text:
        return None
    try:
        wait = float(text)
    except ValueError:
        try:
            wait = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(wait, 0.0) if math.isfinite(wait) else None


def _brief(error: Exception) -> str:
    return str(error) or type(error).__name__
