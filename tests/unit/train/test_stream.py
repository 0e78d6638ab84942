from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isograft.data.loader import Batch, ViewLoader, ViewSpec
from isograft.data.policy import POLICIES
from isograft.plan import Plan
from isograft.train.pace import Pace
from isograft.train.schedule import ResolutionSchedule
from isograft.train.stream import BatchStream

SCHEDULE = ResolutionSchedule((8, 16), (0.6, 0.4))
POLICY = POLICIES["general"]


def planned(total: int) -> Plan:
    plan = Plan()
    plan.decide("total_steps", total, "here")
    return plan


def stream(total: int, start: int, seed: int = 0) -> BatchStream:
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 255, size=(20, 24, 3), dtype=np.uint8) for _ in range(11)]
    loader = ViewLoader(images, np.arange(11, dtype=np.uint64), [ViewSpec(1, 16, POLICY)], 4, seed, threads=1)
    return BatchStream(loader, Pace(planned(total)), SCHEDULE, lambda size: [ViewSpec(2, size, POLICY)], lambda: start)


def collect(batches: Iterator[Batch]) -> list[tuple[list[int], list[torch.Tensor]]]:
    return [(batch.index.tolist(), [view.clone() for view in batch.views]) for batch in batches]


@given(st.integers(1, 9), st.data())
@settings(max_examples=15, deadline=None)
def test_entering_at_step_k_gives_the_batches_from_k_on(total: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, total))
    whole = collect(iter(stream(total, 0)))
    part = collect(iter(stream(total, start)))
    assert len(whole) == total
    assert len(part) == total - start
    for (rows, views), (again, same) in zip(whole[start:], part, strict=True):
        assert rows == again
        assert all(torch.equal(a, b) for a, b in zip(views, same, strict=True))


def test_views_grow_when_the_schedule_says_so() -> None:
    sizes = [views[0].shape[1] for _, views in collect(iter(stream(10, 0)))]
    assert sizes == [8] * 6 + [16] * 4


@pytest.mark.parametrize(
    ("steps", "looked_at", "left", "wanted"),
    [(20, 10, 5, [8] * 11 + [16] * 4), (10, 5, 15, [8] * 8 + [16] * 12)],
    ids=["sooner", "later"],
)
def test_a_run_whose_end_moves_on_its_way_stops_there_and_at_the_full_size(
    steps: int, looked_at: int, left: int, wanted: list[int]
) -> None:
    plan = planned(steps)
    plan.state("most_steps", 25, "here")
    batches = stream(steps, 0)
    batches.pace = Pace(plan)
    sizes = []
    for number, batch in enumerate(batches, start=1):
        sizes.append(batch.views[0].shape[1])
        if number == looked_at:
            batches.pace.replan(looked_at, left, "measured anew")
    assert len(batches) == 25
    assert sizes == wanted


def test_an_epoch_visits_no_image_twice() -> None:
    seen = [row for rows, _ in collect(iter(stream(2, 0))) for row in rows]
    assert len(seen) == len(set(seen)) == 8
