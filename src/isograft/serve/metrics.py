"""What the server counts, in the text format of Prometheus (version 0.0.4): no names, nothing about any image."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Histogram:
    """Counts of values by upper bounds, and their sum."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds, self._counts, self._sum = bounds, [0] * (len(bounds) + 1), 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str, labels: str = "") -> Iterator[str]:
        """Cumulative, as the format wants it."""
        total, comma = 0, "," if labels else ""
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{{labels}{comma}le="{bound}"}} {total}'
        yield f"{name}_sum{{{labels}}} {self._sum:.6f}" if labels else f"{name}_sum {self._sum:.6f}"
        yield f"{name}_count{{{labels}}} {total}" if labels else f"{name}_count {total}"


class Metrics:
    """Counters of one server; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._refused: Counter[str] = Counter()
        self._seconds: dict[str, Histogram] = {}
        self._batches = Histogram(_SIZES)
        self.gauges: dict[str, tuple[str, Callable[[], float]]] = {}

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request. `route` is a template such as /api/labeling/{row}, never what the client wrote."""
        with self._lock:
            self._requests[route, status] += 1
            self._seconds.setdefault(route, Histogram(_SECONDS)).observe(seconds)

    def refused(self, status: str) -> None:
        """Count an image that could not be used, by its status as in a manifest."""
        with self._lock:
            self._refused[status] += 1

    def batch(self, images: int) -> None:
        """Count a batch that the network saw."""
        with self._lock:
            self._batches.observe(images)

    def text(self) -> str:
        """All of it."""
        with self._lock:
            return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield from _head("isograft_requests_total", "counter", "Answered requests.")
        for (route, status), count in sorted(self._requests.items()):
            yield f'isograft_requests_total{{route="{route}",status="{status}"}} {count}'
        yield from _head("isograft_request_seconds", "histogram", "Time from the first byte of a request to the last of its answer.")
        for route, histogram in sorted(self._seconds.items()):
            yield from histogram.lines("isograft_request_seconds", f'route="{route}"')
        yield from _head("isograft_batch_images", "histogram", "Images in a batch of the network.")
        yield from self._batches.lines("isograft_batch_images")
        yield from _head("isograft_images_refused_total", "counter", "Images that could not be used, by reason.")
        for reason, count in sorted(self._refused.items()):
            yield f'isograft_images_refused_total{{status="{reason}"}} {count}'
        for name, (told, value) in self.gauges.items():
            yield from _head(name, "gauge", told)
            yield f"{name} {value():g}"


def _head(name: str, kind: str, told: str) -> tuple[str, str]:
    return f"# HELP {name} {told}", f"# TYPE {name} {kind}"
