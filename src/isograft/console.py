"""What the user sees while work goes on: lines and progress on stderr, so that stdout stays free for results."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from isograft.urls import without_secrets

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress

LINE_SECONDS = 5.0
REDRAW_SECONDS = 0.1

_active: list[Progress] = []
_lock = threading.RLock()
_silenced = 0


def say(text: str) -> None:
    """Print a line for the user on stderr; a progress bar on screen stays below it."""
    _emit(text, "")


def warn(text: str) -> None:
    """Print a warning for the user on stderr; it starts with `warning:`."""
    _emit(f"warning: {text}", "yellow")


@contextmanager
def silent() -> Iterator[None]:
    """Say nothing and show no progress: of several processes that do one thing, one speaks."""
    global _silenced
    _silenced += 1
    try:
        yield
    finally:
        _silenced -= 1


def result(text: str) -> None:
    """Print what the user asked for on stdout, so that it can be piped; everything else goes to stderr."""
    print(text, flush=True)


def duration(seconds: float) -> str:
    """Write seconds the way people read them: `0.4s`, `12s`, `3m20s`, `2h05m`."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


class Progress:
    """A bar with rate and time left; without a terminal, one line every few seconds instead.

    Safe to advance from several threads. One bar is shown at a time: a bar opened inside another is written as lines.

    Args:
        total: How many units there are, or None when nobody knows.
        what: What is going on, for example `Decoding`.
        unit: The name of what is counted, in the plural.
    """

    def __init__(self, total: float | None, what: str, unit: str = "images") -> None:
        self.total = total
        self.what = what
        self.unit = unit
        self.done = 0.0
        self._fields: dict[str, Any] = {}
        self._began = self._shown = time.monotonic()
        self._bar: RichProgress | None = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        self._began = self._shown = time.monotonic()
        with _lock:
            if sys.stderr.isatty() and not _active and not _silenced:
                self._bar = _rich_bar()
                self._task = self._bar.add_task(self.what, total=self.total, note="")
                self._bar.start()
                _active.append(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        with _lock:
            if self._bar is not None:
                self._bar.update(self._task, completed=self.done, total=self.total, note=self._note())
                self._bar.stop()
                self._bar = None
                _active.remove(self)
            elif not _silenced:
                print(self.line(finished=kind is None), file=sys.stderr, flush=True)

    def advance(self, n: float = 1, **fields: Any) -> None:
        """Count `n` more units as done; `fields` (for example `loss=0.31`) are shown beside the rate."""
        with _lock:
            self.done += n
            self._fields.update(fields)
            now = time.monotonic()
            if now - self._shown < (LINE_SECONDS if self._bar is None else REDRAW_SECONDS):
                return
            self._shown = now
            if self._bar is not None:
                self._bar.update(self._task, completed=self.done, total=self.total, note=self._note())
            elif not _silenced:
                print(self.line(), file=sys.stderr, flush=True)

    @property
    def rate(self) -> float:
        """Units per second since the start."""
        return self.done / max(time.monotonic() - self._began, 1e-9)

    def line(self, finished: bool = False) -> str:
        """The state as one line of text."""
        count = f"{self.done:,.0f}" if self.total is None else f"{self.done:,.0f} of {self.total:,.0f}"
        head = f"{self.what}: {count} {self.unit}"
        if finished:
            return f"{head} in {duration(time.monotonic() - self._began)}, {self._note()}"
        return f"{head}, {self._note()}"

    def _note(self) -> str:
        rate = self.rate
        parts = [f"{rate:,.0f} {self.unit}/s" if rate >= 10 else f"{rate:.2g} {self.unit}/s"]
        if self.total is not None and 0 < self.done < self.total:
            parts.append(f"{duration((self.total - self.done) / rate)} left")
        parts += [f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in self._fields.items()]
        return ", ".join(parts)


def _emit(text: str, style: str) -> None:
    text = without_secrets(text)
    if _silenced:
        return
    with _lock:
        if not sys.stderr.isatty():
            print(text, file=sys.stderr, flush=True)
            return
        bar = _active[0]._bar if _active else None
        (bar.console if bar is not None else _terminal()).print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def _terminal() -> Console:
    from rich.console import Console

    return Console(file=sys.stderr)  # the one of now: work inside may send its own lines elsewhere


def _rich_bar() -> RichProgress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    return Progress(*columns, console=_terminal(), refresh_per_second=8)
