"""Which servers failed lately: one that fails again and again is left alone for a while.

So a list of ten thousand images ends soon when the network is down, and not after ten thousand times the patience for one.
"""

from __future__ import annotations

import threading
import time

from isograft.errors import Unreachable

FAILURES = 8
"""Requests in a row, each with all its tries, that a server may fail."""
REST_SECONDS = 60.0
"""For so long it is then not asked."""


class Hosts:
    """Servers (or buckets) by name, how many requests in a row they failed, and when last; safe in threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failed: dict[str, tuple[int, float]] = {}

    def check(self, host: str, url: str) -> None:
        """Go on, unless the server of a URL is left alone.

        Raises:
            Unreachable: It is.
        """
        count, when = self._failed.get(host, (0, 0.0))
        if count >= FAILURES and time.monotonic() - when < REST_SECONDS:
            raise Unreachable(url, f"the last {count:,} requests to its server failed, which is not asked for the next {REST_SECONDS:g} s")

    def failed(self, host: str) -> None:
        """A request failed for good."""
        with self._lock:
            self._failed[host] = (self._failed.get(host, (0, 0.0))[0] + 1, time.monotonic())

    def answered(self, host: str) -> None:
        """A request was answered, whatever the answer."""
        if host in self._failed:
            with self._lock:
                self._failed.pop(host, None)


hosts = Hosts()
