"""The order in which a pool in tar shards is read: whole blocks of neighbouring members, well mixed, each process its own part.

To take images in any order from an object store costs a request each. So an epoch shuffles blocks, deals them out to lanes, and shuffles
within windows of two neighbouring blocks of a lane; a batch takes its share from every lane. Everything is a pure function of (seed,
epoch), so an epoch can be entered at any batch. There are eight lanes, or as many as it takes to give every process the same number: so
1, 2, 4 or 8 processes see the same batches, and each reads only its own lanes.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from isograft.data.draws import BLOCK_STREAM, WINDOW_STREAM, uniforms

Rows = NDArray[np.int64]

BLOCK_BYTES = 8 << 20
LANES = 8
WINDOW = 2


def blocks_of(files: Rows, offsets: Rows, size: int = BLOCK_BYTES) -> Rows:
    """The block of every image: those of one shard whose bytes begin in the same `size` bytes of it.

    Args:
        files: int64 (N,), number of the shard.
        offsets: int64 (N,), where in the shard the image begins.
        size: Bytes; an image that is larger is a block of its own.

    Returns:
        int64 (N,), 0 to K - 1 in the order of files and offsets.
    """
    pieces = offsets // size
    keys = files * (int(pieces.max(initial=0)) + 1) + pieces
    numbers: Rows = np.unique(keys, return_inverse=True)[1].astype(np.int64)
    return numbers


def block_order(blocks: Rows, batch_size: int, seed: int, epoch: int, world_size: int = 1) -> Rows:
    """The rows of an epoch: int64 (N,), each of 0..N-1 once.

    Within every batch the share of process r, the r-th even cut, comes from its own lanes. Two processes share a block only where the
    cut between their parts goes through it. What does not fill a batch comes last.

    Args:
        blocks: int64 (N,), the block of every row.
        batch_size: Images per step over all processes.
        seed: Seed of the order.
        epoch: Number of the epoch.
        world_size: Number of processes.
    """
    count = len(blocks)
    turn = _turns(seed, epoch, int(blocks.max()) + 1)[blocks]
    sequence = np.argsort(turn, kind="stable")
    draws = uniforms(seed, epoch, np.arange(count, dtype=np.uint64), WINDOW_STREAM, 1)[:, 0]
    lanes = -(-LANES // world_size) * world_size
    cuts = [batch_size * lane // lanes for lane in range(lanes + 1)]
    whole = count // batch_size
    full, rest = [], []
    for first, last in pairwise(cuts):
        lane = sequence[count * first // batch_size : count * last // batch_size]
        lane = _shuffled(lane, turn[lane], draws[lane])
        share = last - first
        full.append(lane[: whole * share].reshape(whole, share))
        rest.append(lane[whole * share :])
    return np.concatenate([np.concatenate(full, axis=1).reshape(-1), *rest])


def _turns(seed: int, epoch: int, count: int) -> Rows:
    """When every block comes: a permutation, int64 (count,)."""
    draws = uniforms(seed, epoch, np.arange(count, dtype=np.uint64), BLOCK_STREAM, 1)[:, 0]
    turns = np.empty(count, np.int64)
    turns[np.argsort(draws, kind="stable")] = np.arange(count)
    return turns


def _shuffled(lane: Rows, turns: Rows, draws: NDArray[np.float64]) -> Rows:
    """The rows of a lane, which come block by block, shuffled within windows of so many blocks."""
    if not len(lane):
        return lane
    run = np.cumsum(np.concatenate([[0], turns[1:] != turns[:-1]]))
    return lane[np.lexsort((draws, run // WINDOW))]


def part_of(order: Rows, batch_size: int, rank: int, world_size: int) -> Rows:
    """What one process reads of an epoch's whole batches, in its order."""
    batches = order[: len(order) // batch_size * batch_size].reshape(-1, batch_size)
    return batches[:, batch_size * rank // world_size : batch_size * (rank + 1) // world_size].reshape(-1)
