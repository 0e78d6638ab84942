from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isograft.train import standstill
from isograft.train.standstill import LEAST_SECONDS, TIMES_AS_LONG, Standstill


class Clock:
    """A time that tests move."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def looks(planned: float, gaps: list[float]) -> list[float]:
    clock: Any = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(standstill, "time", clock)
        watch = Standstill(planned)
        watch.begin()
        found = []
        for gap in gaps:
            clock.now += gap
            found.append(watch.look())
        return found


@given(st.floats(0.0, 100.0), st.lists(st.floats(0.0, LEAST_SECONDS), max_size=20))
def test_work_of_less_than_five_minutes_is_never_a_standstill(planned: float, gaps: list[float]) -> None:
    assert not any(looks(planned, gaps))


@given(st.floats(LEAST_SECONDS / TIMES_AS_LONG, 1e5), st.floats(1.0, TIMES_AS_LONG))
def test_nor_is_work_that_was_planned_to_take_long(planned: float, times: float) -> None:
    assert looks(planned, [planned * times]) == [0.0]


def test_a_late_look_follows_a_standstill_and_the_next_one_does_not() -> None:
    assert looks(1.0, [2.0, 7200.0, 2.0]) == [0.0, 7198.0, 0.0]


def test_slow_work_gets_used_to() -> None:
    assert looks(100.0, [900.0, 8000.0, 100_000.0]) == [0.0, 0.0, 92_000.0]
