"""Batches of views, rendered ahead."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isograft.data.loader import Batch, ViewLoader, ViewSpec
from isograft.data.policy import POLICIES, ViewPolicy
from isograft.errors import IsograftError

COUNT = 53
IMAGES = [np.random.default_rng(row).integers(0, 256, (14 + row % 3, 18, 3), dtype=np.uint8) for row in range(COUNT)]
IDS = np.arange(COUNT, dtype=np.uint64) * np.uint64(2**40 + 7)
SPECS = (ViewSpec(2, 12, POLICIES["histology"]), ViewSpec(1, 8, POLICIES["general"]))


def loader(images: Sequence[np.ndarray] = IMAGES, **options: Any) -> ViewLoader:
    chosen: dict[str, Any] = {"specs": SPECS, "batch_size": 8, "seed": 5, **options}
    return ViewLoader(images, IDS[: len(images)], **chosen)


def same(one: Sequence[Batch], other: Sequence[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.index, b.index) and all(torch.equal(x, y) for x, y in zip(a.views, b.views, strict=True))
        for a, b in zip(one, other, strict=True)
    )


def renderers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("isograft-render")]


def test_a_batch_holds_all_views_of_all_specs_in_order() -> None:
    batches = list(loader(labels=np.arange(COUNT) % 4).epoch(0))
    assert len(batches) == loader().batches_per_epoch == 6
    for batch in batches:
        assert [tuple(view.shape) for view in batch.views] == [(8, 12, 12, 3), (8, 12, 12, 3), (8, 8, 8, 3)]
        assert {view.dtype for view in batch.views} == {torch.uint8}
        assert batch.labels is not None
        assert torch.equal(batch.labels, batch.index % 4)
        assert not torch.equal(batch.views[0], batch.views[1])


def test_an_epoch_visits_every_image_at_most_once_and_all_without_drop_last() -> None:
    rows = torch.cat([batch.index for batch in loader().epoch(3)]).tolist()
    assert len(set(rows)) == len(rows) == 48
    everything = torch.cat([batch.index for batch in loader(drop_last=False).epoch(3)]).tolist()
    assert sorted(everything) == list(range(COUNT))
    assert everything[:48] == rows


def test_views_show_the_image_that_the_index_names() -> None:
    flat = [np.full((10, 10, 3), row, np.uint8) for row in range(COUNT)]
    turned = ViewSpec(2, 8, ViewPolicy(rotation=180, crop=(0.3, 1)))
    for batch in loader(flat, specs=(turned,), drop_last=False).epoch(0):
        for view in batch.views:
            assert torch.equal(view, batch.index.to(torch.uint8).view(-1, 1, 1, 1).expand_as(view))


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize("prefetch", [1, 3])
def test_any_number_of_threads_gives_the_same_bytes(threads: int, prefetch: int) -> None:
    wanted = list(loader(batch_size=40, threads=1, drop_last=False).epoch(1))
    assert same(list(loader(batch_size=40, threads=threads, prefetch=prefetch, drop_last=False).epoch(1)), wanted)


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_any_number_of_ranks_gives_the_same_bytes(ranks: int, weighted: bool) -> None:
    options: dict[str, Any] = {"drop_last": False, "weights": np.arange(COUNT, dtype=np.float64) if weighted else None}
    wanted = list(loader(**options).epoch(2))
    shares = [list(loader(rank=rank, world_size=ranks, **options).epoch(2)) for rank in range(ranks)]
    for number, batch in enumerate(wanted):
        parts = [share[number] for share in shares]
        assert torch.equal(torch.cat([part.index for part in parts]), batch.index)
        for place, view in enumerate(batch.views):
            assert torch.equal(torch.cat([part.views[place] for part in parts]), view)


@settings(max_examples=10, deadline=None)
@given(epoch=st.integers(0, 1000), start=st.integers(0, 6), seed=st.integers(0, 2**60))
def test_an_epoch_started_at_a_batch_gives_exactly_the_batches_from_there(epoch: int, start: int, seed: int) -> None:
    assert same(list(loader(seed=seed).epoch(epoch))[start:], list(loader(seed=seed).epoch(epoch, start)))


def test_epochs_and_seeds_differ() -> None:
    first = [next(loader(seed=seed).epoch(epoch)) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert not torch.equal(first[0].index, first[1].index)
    assert not torch.equal(first[0].index, first[2].index)


def test_an_epoch_may_use_other_specs() -> None:
    small = ViewSpec(1, 6, ViewPolicy())
    assert [tuple(view.shape) for view in next(loader().epoch(0, specs=(small,))).views] == [(8, 6, 6, 3)]


def test_a_view_depends_on_the_image_and_not_on_its_row() -> None:
    turned = list(reversed(range(COUNT)))
    mirrored = ViewLoader([IMAGES[row] for row in turned], IDS[turned], SPECS, COUNT, 5)
    one, other = next(loader(batch_size=COUNT).epoch(0)), next(mirrored.epoch(0))
    places, rows = one.index.argsort(), (COUNT - 1 - other.index).argsort()
    assert all(torch.equal(a[places], b[rows]) for a, b in zip(one.views, other.views, strict=True))


def test_weights_set_the_odds_and_a_repeated_image_gets_new_views() -> None:
    weights = np.zeros(COUNT)
    weights[[3, 9]] = 3, 1
    batches = [batch for epoch in range(8) for batch in loader(weights=weights).epoch(epoch)]
    rows = torch.cat([batch.index for batch in batches])
    assert set(rows.tolist()) == {3, 9}
    assert 0.68 < (rows == 3).double().mean().item() < 0.82
    first = torch.cat([batch.views[0] for batch in batches[:6]])
    assert len(torch.unique(first.flatten(1), dim=0)) == len(first)


class Faulty(Sequence[np.ndarray]):
    """Images of which one cannot be read."""

    shapes = np.full((COUNT, 2), 14)

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, row: Any) -> np.ndarray:
        if row == 17:
            raise OSError("row 17 cannot be read")
        return IMAGES[0]


@pytest.mark.parametrize("threads", [1, 3])
def test_an_exception_in_a_thread_reaches_the_caller_and_ends_the_threads(threads: int) -> None:
    with pytest.raises(OSError, match="row 17"):
        list(loader(Faulty(), drop_last=False, threads=threads).epoch(0))
    assert renderers() == []


def test_closing_stops_the_threads() -> None:
    epoch = loader(threads=4).epoch(0)
    next(epoch)
    assert renderers()
    epoch.close()  # type: ignore[attr-defined]
    assert renderers() == []


class Counting(Sequence[np.ndarray]):
    """Images that count how many have been read."""

    shapes = np.full((COUNT, 2), 14)

    def __init__(self) -> None:
        self.read = 0

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, row: Any) -> np.ndarray:
        self.read += 1
        return IMAGES[0]


@pytest.mark.parametrize("prefetch", [1, 3])
def test_no_more_than_the_look_ahead_is_rendered(prefetch: int) -> None:
    images = Counting()
    epoch = loader(images, batch_size=4, prefetch=prefetch, threads=1).epoch(0)
    for number in range(1, 5):
        next(epoch)
        assert images.read <= 4 * (number + prefetch)


def test_each_image_is_read_once_for_all_its_views() -> None:
    images = Counting()
    list(loader(images, drop_last=False).epoch(0))
    assert images.read == COUNT


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": []}, "no images"),
        ({"batch_size": 54}, "cannot be filled from 53"),
        ({"batch_size": 9, "world_size": 2}, "cannot be shared evenly by 2"),
    ],
)
def test_what_cannot_work_is_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(IsograftError, match=message):
        loader(**options)


def test_columns_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="3 labels for 53 images"):
        loader(labels=np.zeros(3, np.int64))


@pytest.mark.parametrize("threads", [1, 3])
def test_views_rendered_where_the_batch_goes_agree_with_those_rendered_here_to_rounding(threads: int) -> None:
    labels = np.arange(COUNT) % 3
    here = list(loader(labels=labels).epoch(2, start=1))
    there = [batch.to(torch.device("cpu")) for batch in loader(labels=labels, on_device=True, threads=threads).epoch(2, start=1)]
    assert len(here) == len(there)
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.index, other.index)
        assert one.labels is not None and other.labels is not None and torch.equal(one.labels, other.labels)
        assert [view.shape for view in one.views] == [view.shape for view in other.views]
        apart = torch.cat([(a.int() - b.int()).abs().flatten() for a, b in zip(one.views, other.views, strict=True)])
        assert (apart <= 2).float().mean() > 0.97  # noise has steep edges, and values on the solarisation threshold may fall on either side
