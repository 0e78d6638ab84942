import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from isograft.data.loader import Batch, ViewLoader, ViewSpec
from isograft.data.policy import POLICIES
from isograft.train.ahead import AheadOnDevice

CPU = torch.device("cpu")


class Numbered:
    """Batches 0, 1, 2, …, which note when each is asked for and when the source is closed."""

    def __init__(self, count: int, fails_at: int | None = None) -> None:
        self.count, self.fails_at = count, fails_at
        self.asked: list[int] = []
        self.closed = False
        self.by: set[str] = set()
        self._asked = threading.Condition()

    def reached(self, number: int) -> bool:
        """Whether a batch is asked for, within a while."""
        with self._asked:
            return self._asked.wait_for(lambda: number in self.asked, timeout=30)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        try:
            for number in range(self.count):
                with self._asked:
                    self.asked.append(number)
                    self._asked.notify_all()
                self.by.add(threading.current_thread().name)
                if number == self.fails_at:
                    raise OSError("no such image")
                yield Batch([torch.full((1, 2, 2, 3), number, dtype=torch.uint8)], torch.tensor([number]), None)
        finally:
            self.closed = True


@pytest.mark.parametrize("count", [0, 1, 5])
def test_every_batch_comes_once_and_in_order(count: int) -> None:
    source = Numbered(count)
    ahead = AheadOnDevice(source, CPU)
    assert len(ahead) == count
    assert [int(batch.index) for batch in ahead] == list(range(count))
    assert source.closed


def test_a_batch_is_begun_before_the_one_before_it_is_in_use() -> None:
    source = Numbered(4)
    batches = iter(AheadOnDevice(source, CPU))
    for number in range(3):
        next(batches)
        assert source.reached(number + 1)  # without being asked for it


def test_a_batch_is_read_while_the_one_before_it_is_in_use() -> None:
    source = Numbered(3)
    batches = iter(AheadOnDevice(source, CPU))
    names = set()
    for _ in batches:
        names.add(threading.current_thread().name)
    assert names == {threading.main_thread().name} and source.by == {"isograft-ahead_0"}


def test_stopping_early_closes_the_source_and_its_threads() -> None:
    images = [np.full((20, 24, 3), row, np.uint8) for row in range(12)]
    specs = [ViewSpec(1, 8, POLICIES["general"])]
    loader = ViewLoader(images, np.arange(12, dtype=np.uint64), specs, 4, 0, threads=1, on_device=True)

    class Endless:
        def __iter__(self) -> Iterator[Batch]:
            return loader.epoch(0)

    batches = iter(AheadOnDevice(Endless(), CPU))
    assert next(batches).views[0].shape == (4, 8, 8, 3)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("isograft-render")]


def test_an_error_of_the_source_is_raised_and_no_batch_after_it_is_made_up() -> None:
    seen = []
    with pytest.raises(OSError, match="no such image"):
        for batch in AheadOnDevice(Numbered(5, fails_at=2), CPU):
            seen.append(int(batch.index))
    assert seen == [0, 1]
