"""A network that answers batches of pixels, several batches at a time, each on one core.

One batch per core is mostly faster than one batch on all cores (0.9 to 2.9 times on two: the cores need not wait for each other in every
layer), leaves room for the threads that decode, and makes the bits of an answer independent of how many cores there are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from isograft.batching import place_is_free

Images = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.float32]
Outputs = tuple[Numbers, Numbers]


class Engine(ABC):
    """Computes batches of one fixed shape, so that an image's answer never depends on its neighbours, its place, or the number of cores.

    Close it, or use it in a `with` statement. `submit` may be called from any thread.

    Args:
        side: S, side of the square the network sees, in pixels.
        batch: Images per batch, if an image's bits do not depend on its place among them; otherwise batches hold one image.
        workers: Batches that are computed at a time.

    Attributes:
        name: As `--engine` calls it.
    """

    name: str

    def __init__(self, side: int, batch: int, workers: int) -> None:
        self.side, self.workers = side, workers
        self._batch = batch
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="network", initializer=self._prepared())

    @cached_property
    def size(self) -> int:
        """B, images per batch; tried when it is first asked for."""
        free = place_is_free(lambda images: np.concatenate(self._submit(images).result(), axis=2), self.side, self._batch)
        return self._batch if free else 1

    def submit(self, batch: Images) -> Future[Outputs]:
        """Begin to compute one batch.

        Args:
            batch: uint8 (b, S, S, 3) RGB, 1 <= b <= `size`; filled up with black images to `size`.

        Returns:
            Logits float32 (B, M, K) and pooled features float32 (B, M, D) of M networks, B = `size`; D is 0 where they are not to be had.
        """
        if len(batch) == self.size:
            return self._submit(batch)
        filled = np.zeros((self.size, *batch.shape[1:]), dtype=np.uint8)
        filled[: len(batch)] = batch
        return self._submit(filled)

    def close(self) -> None:
        """Wait for what was begun, drop what was not, and let the threads go."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _submit(self, batch: Images) -> Future[Outputs]:
        return self._pool.submit(self._compute, batch)

    def _prepared(self) -> Callable[[], None]:
        """What every thread of the pool does first."""
        return lambda: None

    @abstractmethod
    def _compute(self, batch: Images) -> Outputs:
        """The outputs of uint8 (B, S, S, 3), called in a thread of the pool."""
