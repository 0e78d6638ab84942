"""A step that does not fit into memory: repeated from the same numbers, in parts half as large, until it fits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from isograft.data.loader import Batch
from isograft.errors import IsograftError
from isograft.ssl.gather import rank, world_size
from isograft.train.course import MICRO_BATCH
from isograft.train.memory_notes import leave_note
from isograft.train.micro_batches import halved, largest_pass, least_part, out_of_memory, release_memory


class Accumulation:
    """Computes the steps of a module.

    Until a step is computed, nothing of the failed attempts may be left: what a forward pass changes besides gradients are buffers
    (running statistics, centres, counters), which are put back, and the generator of random numbers, which is seeded again.

    Args:
        module: The `TrainingModule`.
    """

    def __init__(self, module: Any) -> None:
        self.module: Any = module
        self._largest = 0
        self._buffers: list[Tensor] = []
        self._before: list[Tensor] = []

    def begin(self, batch: Batch) -> None:
        """Note the size of a step's batch, and the state of the buffers before it."""
        self._largest = largest_pass(batch.views)
        buffers = list(self.module.buffers())
        if [id(one) for one in buffers] != [id(one) for one in self._buffers]:
            self._buffers, self._before = buffers, [torch.empty_like(one) for one in buffers]
        _copy(self._buffers, self._before)

    def computed(self, closure: Callable[[], Any]) -> Any:
        """Compute loss and gradients, in smaller parts where memory asks for them.

        Raises:
            IsograftError: The smallest part does not fit; or several processes train together, who all go on in parts when they are
                started again.
        """
        while True:
            try:
                return closure()
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
            self._halve()  # here, where the failed attempt holds no memory any more

    def _halve(self) -> None:
        module: Any = self.module
        step = module.global_step
        least = least_part(module)
        micro = halved(module.course.micro_batch(step), self._largest, least)
        if micro is None:
            few = "one image" if least == 1 else f"{least} images"
            raise IsograftError(f"there is not enough memory for {few} at step {step}; choose a smaller --image-size or --backbone")
        if world_size() > 1:  # the others wait for this one in the middle of the step, so it cannot be repeated
            leave_note(module.course, step, micro)
            raise IsograftError(
                f"memory was full in process {rank()} at step {step}: with --resume the network sees {micro} of its {self._largest} "
                "pictures at a time from there on"
            )
        module.zero_grad()
        _copy(self._before, self._buffers)
        release_memory()
        module.seed_draws()
        told = f"memory was full at step {step}: from there on the network sees {micro} of a batch's {self._largest} pictures at a time"
        module.course.change(MICRO_BATCH, step, micro, told)
        module.tell_changes()


@torch.no_grad()
def _copy(source: list[Tensor], target: list[Tensor]) -> None:
    if source:
        torch._foreach_copy_(target, source)
