"""Batches moved to a GPU one ahead of the step that takes them, so that copying and rendering go on while it computes."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing, nullcontext
from typing import Any

import torch

from isograft.data.loader import Batch


class AheadOnDevice:
    """The batches of a stream on a device, each begun while the one before it is in use.

    On a GPU the work is done on a stream of its own from pinned memory; on the CPU nothing overlaps, and only the order is the same.
    When the number of steps changes during a run, the batch that is under way already is still one of them: a change never takes away the
    very next step.

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
        with closing(source):
            waiting = self._begin(source)
            while waiting is not None:
                batch = self._finish(waiting)
                waiting = self._begin(source)
                yield batch

    def _begin(self, source: Generator[Batch]) -> Batch | None:
        """Start moving the next batch."""
        batch = next(source, None)
        if batch is None:
            return None
        with torch.cuda.stream(self._side) if self._side is not None else nullcontext():
            return batch.to(self.device)

    def _finish(self, batch: Batch) -> Batch:
        """Let the step wait for the batch, and the memory for the step."""
        if self._side is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_stream(self._side)
            for tensor in (*batch.views, *([] if batch.labels is None else [batch.labels])):
                tensor.record_stream(current)
        return batch
