"""Signals while a network is trained: Ctrl-C and SIGTERM end it with a saved state, SIGUSR1 saves the state and goes on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl

from isograft.errors import Terminated
from isograft.train.callbacks import Checkpoint

SAVE: int | None = getattr(signal, "SIGUSR1", None)  # Windows has none
HANDLED = (signal.SIGINT, signal.SIGTERM, *([SAVE] if SAVE is not None else []))


class Signals(pl.Callback):
    """Hands signals on to what saves the state. The second of a kind does not wait for the step to end.

    Args:
        checkpoint: Saves the state after the step.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._seen: set[int] = set()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals over; Lightning has put handlers of its own in place by now, which would end the run unsaved."""
        if threading.current_thread() is threading.main_thread():
            for number in HANDLED:
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: Any) -> None:
        if number == SAVE:
            self.checkpoint.save_requested = True
        elif number in self._seen:
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
        else:
            self._seen.add(number)
            self.checkpoint.request_stop(number)


@contextmanager
def signals_restored() -> Iterator[None]:
    """Put back at the end what became of a signal before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in HANDLED}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # one that was not set by Python cannot be put back
                signal.signal(number, handler)
