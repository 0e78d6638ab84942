from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isograft.errors import IsograftError
from isograft.plan import Plan
from isograft.train import shares


@given(st.integers(1, 10_000), st.integers(1, 64))
def test_an_even_batch_is_the_largest_that_all_can_share(batch: int, processes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shares, "world_size", lambda: processes)
        even = shares.even(batch)
    assert even == batch if batch < processes else even % processes == 0 and even <= batch < even + processes


def test_a_batch_that_cannot_be_shared_is_refused_with_one_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "world_size", lambda: 4)
    plan = Plan()
    plan.decide("batch_size", 30, "as asked")
    with pytest.raises(IsograftError, match=r"30 images cannot be shared evenly by 4 processes; give --batch-size 28"):
        shares.plan_processes(plan)


def test_one_process_says_nothing_of_processes() -> None:
    plan = Plan()
    plan.decide("batch_size", 7, "as asked")
    shares.plan_processes(plan)
    assert "processes" not in plan


def test_fewer_images_than_processes_are_refused_with_the_number_of_processes_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "world_size", lambda: 8)
    plan = Plan()
    plan.decide("batch_size", shares.even(5), "all there are")
    with pytest.raises(IsograftError, match="a batch of 5 images cannot be shared by 8 processes; start at most 5"):
        shares.plan_processes(plan)
