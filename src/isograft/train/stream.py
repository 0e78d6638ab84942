"""The whole run as one sequence of batches, which can be entered at any step."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import islice

from isograft.data.loader import Batch, ViewLoader, ViewSpec
from isograft.train.schedule import ResolutionSchedule

SpecsAt = Callable[[int], list[ViewSpec]]


class BatchStream:
    """All batches of a run, from the step `position()` on.

    Because every draw is a function of (seed, epoch, image, view), the batches from step k on are the same whether the run got there
    in one go or was resumed there.

    Args:
        loader: Renders the views of one epoch.
        total_steps: Steps of the whole run.
        schedule: View size by step.
        specs_at: The views wanted at a size.
        position: Returns the number of steps already done.
    """

    def __init__(
        self, loader: ViewLoader, total_steps: int, schedule: ResolutionSchedule, specs_at: SpecsAt, position: Callable[[], int]
    ) -> None:
        self.loader = loader
        self.total_steps = total_steps
        self.schedule = schedule
        self.specs_at = specs_at
        self.position = position

    def __len__(self) -> int:
        return self.total_steps

    def __iter__(self) -> Iterator[Batch]:
        step = self.position()
        per_epoch = self.loader.batches_per_epoch
        while step < self.total_steps:
            epoch, offset = divmod(step, per_epoch)
            specs = self.specs_at(self.schedule.size_at(step, self.total_steps))
            stop = min((epoch + 1) * per_epoch, self.schedule.next_change(step, self.total_steps))
            batches: Generator[Batch] = self.loader.epoch(epoch, start=offset, specs=specs)  # type: ignore[assignment]
            with closing(batches):
                for batch in islice(batches, stop - step):
                    step += 1
                    yield batch
