"""SIGTERM, as job schedulers, containers and service managers send it: a command ends as it does at Ctrl-C, with exit code 143."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from isograft.errors import Terminated


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Let SIGTERM unwind what is going on, so that locks are let go and half files removed; a second one ends the process at once.

    SIGUSR1, which announces a time limit, is passed over where there is no state to be saved; by itself it would end the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else [])]
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, _end if number == signal.SIGTERM else signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


def _end(number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Terminated
