"""Batches moved to a GPU one ahead of the step that takes them, so that copying and rendering go on while it computes."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import torch

from isograft.data.loader import Batch


class AheadOnDevice:
    """The batches of a stream on a device, each begun while the one before it is in use.

    A thread of its own reads and renders the next batch, since both wait for the device now and then. On a GPU it works on a stream of its
    own, from pinned memory. When the number of steps changes during a run, the batch that is under way already is still one of them: a
    change never takes away the very next step.

    Args:
        batches: A `BatchStream`, or anything that yields batches and has a length.
        device: Where they go.
    """

    def __init__(self, batches: Any, device: torch.device) -> None:
        self.batches: Iterable[Batch] = batches
        self.device = device
        self._side = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        """The most batches there can be."""
        return len(self.batches)  # type: ignore[arg-type]

    def __iter__(self) -> Generator[Batch]:
        source: Generator[Batch] = iter(self.batches)  # type: ignore[arg-type]
        with closing(source), ThreadPoolExecutor(1, "isograft-ahead") as worker:  # the thread ends before its source is closed
            waiting = worker.submit(self._begin, source)
            while (begun := waiting.result()) is not None:
                batch = self._finish(*begun)
                waiting = worker.submit(self._begin, source)
                yield batch

    def _begin(self, source: Generator[Batch]) -> tuple[Batch, Any] | None:
        """Read the next batch and start moving it; with it comes what tells that the GPU has done so."""
        with ExitStack() as places:
            if self._side is not None:
                places.enter_context(torch.cuda.device(self.device))  # a new thread would be at the first GPU
                places.enter_context(torch.cuda.stream(self._side))
            batch = next(source, None)
            if batch is None:
                return None
            moved = batch.to(self.device)
            return moved, self._side.record_event() if self._side is not None else None

    def _finish(self, batch: Batch, done: Any) -> Batch:
        """Let the step wait for the batch, and the memory for the step."""
        if done is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(done)
            for tensor in (*batch.views, *([] if batch.labels is None else [batch.labels])):
                tensor.record_stream(current)
        return batch
