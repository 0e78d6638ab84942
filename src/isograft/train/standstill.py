"""Time in which the machine stood still: a laptop that was closed, a virtual machine or a job that was suspended."""

from __future__ import annotations

import time

LEAST_SECONDS = 300.0
TIMES_AS_LONG = 10.0


class Standstill:
    """Tells a standstill from slow work by the time between two looks.

    Some clocks run on while the machine sleeps, and all do while a process is stopped. A look that comes five minutes late, and after
    ten times as long as any before it or as was planned, follows a standstill.

    Args:
        planned: The longest time between two looks that was planned, in seconds.
    """

    def __init__(self, planned: float) -> None:
        self._planned = planned
        self._longest = 0.0
        self._last = time.monotonic()

    def begin(self) -> None:
        """Count from now on."""
        self._last = time.monotonic()

    def look(self) -> float:
        """Seconds of standstill since the last look, 0 as a rule: what passed beyond the longest time between looks before."""
        now = time.monotonic()
        passed, self._last = now - self._last, now
        if passed > max(LEAST_SECONDS, TIMES_AS_LONG * max(self._planned, self._longest)):
            return passed - self._longest
        self._longest = max(self._longest, passed)
        return 0.0
