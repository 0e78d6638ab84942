"""The order in which a pool in shards is read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isograft.data.blocks import LANES, WINDOW, block_order, blocks_of, part_of


def pool(count: int, each: int = 5) -> np.ndarray:
    return np.arange(count) // each


def test_images_of_one_shard_whose_bytes_begin_in_the_same_piece_share_a_block() -> None:
    files, offsets = np.array([0, 0, 0, 1, 1, 0]), np.array([0, 90, 100, 0, 250, 199])
    assert blocks_of(files, offsets, 100).tolist() == [0, 0, 1, 2, 3, 1]


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 300),
    each=st.integers(1, 40),
    batch=st.integers(1, 50),
    epoch=st.integers(0, 9),
    world=st.sampled_from([1, 2, 3, 4, 8, 12]),
)
def test_an_epoch_takes_every_row_once(count: int, each: int, batch: int, epoch: int, world: int) -> None:
    assert sorted(block_order(pool(count, each), batch, 3, epoch, world)) == list(range(count))


@pytest.mark.parametrize("world", [2, 4, 8])
def test_one_process_and_several_see_the_same_batches(world: int) -> None:
    assert np.array_equal(block_order(pool(203), 16, 7, 2, world), block_order(pool(203), 16, 7, 2))


@pytest.mark.parametrize("world", [2, 3, 8])
def test_processes_share_a_block_only_where_the_cut_goes_through_it(world: int) -> None:
    blocks = pool(2000)
    order = block_order(blocks, 24, 0, 1, world)
    readers = [set(blocks[part_of(order, 24, rank, world)]) for rank in range(world)]
    shared = sum(len(one) for one in readers) - len(set.union(*readers))
    assert shared <= world - 1
    rows = [part_of(order, 24, rank, world) for rank in range(world)]
    assert {len(part) for part in rows} == {2000 // 24 * 24 // world} and len(np.unique(np.concatenate(rows))) == 2000 // 24 * 24


def test_a_part_is_what_the_loader_gives_that_process() -> None:
    from isograft.data.loader import ViewLoader, ViewSpec
    from isograft.data.policy import POLICIES

    class Ordered(list):
        def order(self, seed: int, epoch: int, batch_size: int, rank: int, world_size: int) -> np.ndarray:
            return block_order(pool(len(self)), batch_size, seed, epoch, world_size)

    images = Ordered([np.zeros((8, 8, 3), np.uint8)] * 50)
    spec = ViewSpec(1, 8, POLICIES["general"])
    loader = ViewLoader(images, np.arange(50, dtype=np.uint64), [spec], 12, 5, rank=1, world_size=3, threads=1)
    given = [int(row) for batch in loader.epoch(4) for row in batch.index]
    assert given == part_of(block_order(pool(50), 12, 5, 4, 3), 12, 1, 3).tolist()
    with pytest.raises(ValueError, match="order of their own"):
        ViewLoader(images, np.arange(50, dtype=np.uint64), [spec], 12, 5, weights=np.ones(50))


def test_a_batch_mixes_images_of_every_lane() -> None:
    blocks = pool(4000)
    first = block_order(blocks, 64, 0, 0)[:64]
    assert len(set(blocks[first])) > LANES and np.ptp(first) > 2000


def test_few_blocks_are_in_use_at_one_time() -> None:
    blocks = pool(4000)
    order = blocks[block_order(blocks, 64, 0, 0)][: 4000 // 64 * 64]
    numbers, first, last = np.unique(order, return_index=True)[0], {}, {}
    for place, number in enumerate(order.tolist()):
        first.setdefault(number, place)
        last[number] = place
    used = [sum(first[number] <= place <= last[number] for number in numbers.tolist()) for place in range(0, len(order), 37)]
    assert max(used) <= 2 * WINDOW * LANES


def test_epochs_and_seeds_differ() -> None:
    orders = [block_order(pool(200), 16, seed, epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert not np.array_equal(orders[0], orders[1]) and not np.array_equal(orders[0], orders[2])
