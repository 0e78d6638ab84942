"""Random numbers without state: every draw is a function of (seed, epoch, image, stream).

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) turns a
128-bit counter and a 64-bit key into 128 random bits. The key is the seed; the counter holds the
epoch, the image's id, the stream (which view, or the order of an epoch) and the number of the draw.
So a draw does not depend on the batch, thread, process or restart in which it is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HIGH = np.uint64(32)
_ROUNDS = 10
_LANES = 4  # numbers made by one counter
_MAX_BLOCKS = 1 << 16

# Streams: what a draw decides. A view's stream is VIEW_STREAM plus the number of the view.
ORDER_STREAM = 0
PICK_STREAM = 1
BLOCK_STREAM = 2
WINDOW_STREAM = 3
VIEW_STREAM = 256


def philox4x32(counter: tuple[NDArray[np.uint64], ...], key: tuple[int, int]) -> tuple[NDArray[np.uint64], ...]:
    """Philox4x32 with ten rounds, on arrays of counters.

    Args:
        counter: four uint64 arrays of one shape, each value below 2**32 (word 0 first).
        key: two words below 2**32.

    Returns:
        Four uint64 arrays of that shape with values in [0, 2**32).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        product0 = c0 * _MULTIPLIERS[0]
        product1 = c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (product1 >> _HIGH) ^ c1 ^ np.uint64(k0),
            product1 & _LOW,
            (product0 >> _HIGH) ^ c3 ^ np.uint64(k1),
            product0 & _LOW,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


def uniforms(seed: int, epoch: int, ids: NDArray[np.uint64], stream: int | NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """Draw `n` numbers in [0, 1) for every id.

    Args:
        seed: any integer; its low 64 bits are the key.
        epoch: 0 to 2**32 - 1.
        ids: uint64 (B,), one per image.
        stream: 0 to 65,535: one for all, or int64 (B,), one per id.
        n: how many draws per id, up to 262,144. The first k draws do not depend on n.

    Returns:
        float64 (B, n) in [0, 1), multiples of 2**-32.
    """
    words = _words(seed, epoch, ids, stream, -(-n // _LANES))
    return words.reshape(len(ids), -1)[:, :n] * np.float64(2.0**-32)


def permutation(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """Order in which `n` rows are visited in this epoch: int64 (n,), each of 0..n-1 once."""
    words = _words(seed, epoch, np.arange(n, dtype=np.uint64), ORDER_STREAM, 1)[:, 0]
    # 64 random bits per row: a tie, broken by row number, is too rare to bias the order.
    return np.argsort((words[:, 0] << _HIGH) | words[:, 1], kind="stable")


def _words(seed: int, epoch: int, ids: NDArray[np.uint64], stream: int | NDArray[np.int64], blocks: int) -> NDArray[np.uint64]:
    """Random 32-bit words as uint64 (B, blocks, 4)."""
    if not 0 <= epoch < 1 << 32:
        raise ValueError(f"epoch {epoch} is outside 0..2**32-1")
    if blocks > _MAX_BLOCKS:
        raise ValueError(f"{blocks * _LANES} draws per id are more than {_MAX_BLOCKS * _LANES}")
    streams = np.broadcast_to(np.asarray(stream, np.int64), (len(ids),)).astype(np.uint64)
    if (streams >= 1 << 16).any():  # a negative stream has wrapped to a large one
        raise ValueError(f"stream {stream} is outside 0..65535")
    shape = (len(ids), blocks)
    block = (streams[:, None] << np.uint64(16)) | np.arange(blocks, dtype=np.uint64)[None, :]
    wide = np.broadcast_to(ids.astype(np.uint64, copy=False)[:, None], shape)
    counter = (block, np.full(shape, epoch, np.uint64), wide & _LOW, wide >> _HIGH)
    return np.stack(philox4x32(counter, (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF)), axis=-1)
