"""What the server has in common with and without a classifier: its bounds, its counts, its threads, and the images to label.

With a pretrained backbone there is nothing to answer, but the first labels can be given.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from isograft.model import Model
from isograft.serve.labeling import Labeling
from isograft.serve.metrics import Metrics
from isograft.serve.problems import busy
from isograft.serve.upload import Budget, Patience

T = TypeVar("T")


@dataclass(frozen=True)
class Bounds:
    """What the server takes on.

    Attributes:
        megabytes: Of an upload.
        megapixels: Of an image.
        requests: Uploads that are decoded or answered at one time; more are told to come back.
        heatmaps: Heatmaps that are made or wait.
        seconds: Until an answer is given up.
        heatmap_seconds: Until a heatmap is.
        patience: With clients that send slowly.
        decoders: Decoding threads; 0 takes one per core, up to 4.
    """

    megabytes: int = 64
    megapixels: int = 50
    requests: int = 128
    heatmaps: int = 2
    seconds: float = 30.0
    heatmap_seconds: float = 120.0
    patience: Patience = field(default_factory=Patience)
    decoders: int = 0

    @property
    def bytes(self) -> int:
        """Most bytes of a file."""
        return self.megabytes << 20

    @property
    def pixels(self) -> int:
        """Most pixels of an image."""
        return self.megapixels * 1_000_000


class Desk:
    """A place where images are labeled, and the base of one where they are answered, too.

    Args:
        model: The model.
        bounds: What it takes on.
        labeling: The images to label, if any.
    """

    def __init__(self, model: Model, bounds: Bounds | None = None, labeling: Labeling | None = None) -> None:
        self.model, self.bounds, self.labeling = model, bounds or Bounds(), labeling
        self.metrics = Metrics()
        self.budget = Budget(max(4 * self.bounds.bytes, 512 << 20))
        self.draining = False
        self._uploads = self._requests = 0
        decoders = self.bounds.decoders or min(4, os.cpu_count() or 1)
        self._decoders = ThreadPoolExecutor(decoders, thread_name_prefix="isograft-decode")

    @property
    def busy(self) -> int:
        """Requests with an image that are received or worked on."""
        return self._uploads

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """A request with an image, from its first byte to its answer."""
        self._uploads += 1
        try:
            yield
        finally:
            self._uploads -= 1

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place among the requests at work.

        Raises:
            Problem: There is none left.
        """
        if self._requests >= self.bounds.requests:
            raise busy(f"{self.bounds.requests} uploads are being worked on already; try again in a second")
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    async def work(self, task: Callable[[], T]) -> T:
        """Run something short on a decoding thread."""
        return await asyncio.get_running_loop().run_in_executor(self._decoders, task)

    def close(self) -> None:
        """End its threads."""
        self._decoders.shutdown(wait=True, cancel_futures=True)
        if self.labeling is not None:
            self.labeling.close()
