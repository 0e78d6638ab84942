"""Images of many requests meet in the batches of one network.

Every batch has the one shape that the engine chose, filled up with black, so that an answer has the bits that `predict` gives,
whatever else is asked at the time. There is no timer that holds a lone image back: whoever comes while the network works waits for the
next batch, so batches fill up by themselves when it is busy. Only while other images are being decoded at this moment
does a batch that is not full wait for them, and only for milliseconds.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from isograft.inference import NOT_FINITE, Answer, Answering, Image
from isograft.judgement import Judgement

LINGER = 0.003
"""Seconds that a batch which is not full waits for images that are being decoded."""


@dataclass(frozen=True)
class Judged:
    """One image's answer as it is told.

    Attributes:
        answer: What the network says.
        probabilities: float64 (K,), calibrated.
        prediction_set: Classes that cannot be ruled out; None where that is unknown.
        verdicts: The columns that `predict` writes beside them: name to value, None where unknown.
    """

    answer: Answer
    probabilities: np.ndarray[Any, np.dtype[np.float64]]
    prediction_set: list[str] | None
    verdicts: dict[str, Any]


@dataclass
class _Asked:
    pixels: Image
    id: str
    future: Future[Judged] = field(default_factory=Future)


class Batcher:
    """Answers images one by one for those who ask, in batches for the network.

    Args:
        answering: The network; it is closed with the batcher.
        judgement: How its answers are to be taken.
        expected: How many images are being decoded just now.
        counted: Told the size of every batch.
    """

    def __init__(
        self,
        answering: Answering,
        judgement: Judgement,
        expected: Callable[[], int] = lambda: 0,
        counted: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._answering, self._judgement = answering, judgement
        self._expected, self._counted = expected, counted
        self._queue: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._free = threading.Semaphore(answering.workers)
        self._judging = ThreadPoolExecutor(1, thread_name_prefix="isograft-judge")
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="isograft-batches", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Images that no batch has taken yet."""
        return self._queue.qsize()

    def ask(self, pixels: Image, id: str) -> Future[Judged]:
        """Have an image answered.

        Args:
            pixels: uint8 (S, S, 3) RGB, as `inference.squared` gives them.
            id: The image's id.

        Returns:
            Its answer to come; cancelled before a batch takes it, the image is dropped.
        """
        asked = _Asked(pixels, id)
        if self._closed.is_set():
            asked.future.set_exception(RuntimeError("the server is closed"))
        else:
            self._queue.put(asked)
        return asked.future

    def close(self) -> None:
        """End the threads after the batches they are at; what waits behind is not answered."""
        self._closed.set()
        self._queue.put(None)
        self._thread.join()
        self._answering.close()
        self._judging.shutdown(wait=True)
        while not self._queue.empty():
            if (asked := self._queue.get()) is not None:
                asked.future.cancel()

    def _run(self) -> None:
        """Fill a batch whenever the network is free for one: not earlier, so that it takes all who have come by then."""
        while True:
            self._free.acquire()
            first = self._queue.get()
            if first is None or self._closed.is_set():
                return
            batch: list[_Asked] = []
            try:
                self._take(first, batch)
                if batch:
                    self._counted(len(batch))
                    self._answering.submit([asked.pixels for asked in batch]).add_done_callback(partial(self._done, batch))
                else:
                    self._free.release()
            except BaseException as error:  # those who wait must hear of it, and the next batch may fare better
                self._free.release()
                _fail(batch, error)

    def _done(self, batch: list[_Asked], answered: Future[list[Answer]]) -> None:
        """Let the network go on while a batch of answers is judged."""
        self._free.release()
        try:
            self._judging.submit(self._tell, batch, answered)
        except RuntimeError as error:  # closed
            _fail(batch, error)

    def _take(self, first: _Asked, batch: list[_Asked]) -> None:
        """Put those who wait into a batch, as many as fit, without those who have gone away."""
        if first.future.set_running_or_notify_cancel():
            batch.append(first)
        deadline = time.monotonic() + LINGER
        while len(batch) < self._answering.size:
            try:
                patience = deadline - time.monotonic() if self._expected() else 0.0
                asked = self._queue.get(timeout=patience) if patience > 0 else self._queue.get_nowait()
            except queue.Empty:
                break
            if asked is None:
                self._queue.put(None)
                break
            if asked.future.set_running_or_notify_cancel():
                batch.append(asked)

    def _tell(self, batch: list[_Asked], answered: Future[list[Answer]]) -> None:
        try:
            answers = answered.result()
            sound = [(asked, answer) for asked, answer in zip(batch, answers, strict=True) if answer.finite]
            if sound:
                judged = judge(self._judgement, [answer for _, answer in sound], [asked.id for asked, _ in sound])
                for (asked, _), one in zip(sound, judged, strict=True):
                    asked.future.set_result(one)
            _fail(batch, ArithmeticError(NOT_FINITE))
        except BaseException as error:
            _fail(batch, error)


def _fail(batch: Sequence[_Asked], error: BaseException) -> None:
    """Tell those who have no answer yet why they get none."""
    for asked in batch:
        if not asked.future.done():
            asked.future.set_exception(error)


def judge(judgement: Judgement, answers: Sequence[Answer], ids: Sequence[str]) -> list[Judged]:
    """Several answers at once, as `predictions.judged` tells them."""
    probabilities, verdicts = judgement.probabilities(answers), judgement.verdicts(answers, ids)
    columns = {name: [None] * len(answers) if values is None else values for name, (_, values) in verdicts.items()}
    held = judgement.held(judgement.votes(answers), ids)
    names = judgement.classes
    return [
        Judged(
            answer,
            probabilities[row],
            None if held is None else [name for name, inside in zip(names, held[row], strict=True) if inside],
            {name: values[row] for name, values in columns.items()},
        )
        for row, answer in enumerate(answers)
    ]
