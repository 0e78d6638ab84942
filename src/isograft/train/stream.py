"""The whole run as one sequence of batches, which can be entered at any step."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing

from isograft.data.loader import Batch, ViewLoader, ViewSpec
from isograft.train.pace import Pace
from isograft.train.schedule import ResolutionSchedule

SpecsAt = Callable[[int], list[ViewSpec]]


class BatchStream:
    """All batches of a run, from the step `position()` on.

    Because every draw is a function of (seed, epoch, image, view), the batches from step k on are the same whether the run got there
    in one go or was resumed there.

    Args:
        loader: Renders the views of one epoch.
        pace: Steps of the whole run, and how far it has come at each.
        schedule: View size by progress.
        specs_at: The views wanted at a size.
        position: Returns the number of steps already done.
    """

    def __init__(
        self, loader: ViewLoader, pace: Pace, schedule: ResolutionSchedule, specs_at: SpecsAt, position: Callable[[], int]
    ) -> None:
        self.loader = loader
        self.pace = pace
        self.schedule = schedule
        self.specs_at = specs_at
        self.position = position

    def __len__(self) -> int:
        """The most batches there can be: Lightning asks once, at the start, and takes the end of the stream, which may come earlier."""
        return self.pace.most

    def __iter__(self) -> Iterator[Batch]:
        step = self.position()
        per_epoch = self.loader.batches_per_epoch
        while step < self.pace.total:
            epoch, offset = divmod(step, per_epoch)
            size = self._size(step)
            batches: Generator[Batch] = self.loader.epoch(epoch, start=offset, specs=self.specs_at(size))  # type: ignore[assignment]
            with closing(batches):
                for batch in batches:
                    step += 1
                    yield batch
                    if step >= self.pace.total or self._size(step) != size:  # asked every time: the pace may have changed
                        break

    def _size(self, step: int) -> int:
        return self.schedule.size_at(self.pace.progress(step))
