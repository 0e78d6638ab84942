"""Which patches a masked autoencoder hides: a pure function of seed, step and place in the batch."""

from __future__ import annotations

import torch
from torch import Tensor

# SplitMix64 (Steele, Lea, Flood 2014, doi:10.1145/2660193.2660195) as signed 64-bit integers, which wrap alike on every device.
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX = ((30, 0xBF58476D1CE4E5B9 - (1 << 64)), (27, 0x94D049BB133111EB - (1 << 64)))


def random_keys(seed: int, step: Tensor, first: int, rows: int, columns: int) -> Tensor:
    """Draw well-mixed 64-bit integers that depend on nothing but the arguments.

    Args:
        seed: Any int >= 0.
        step: Scalar int64 tensor; its device is the result's.
        first: Place of the first row in the batch over all ranks.
        rows: Number of rows.
        columns: Number of columns.

    Returns:
        int64 (rows, columns); the same row for the same seed, step and place, whatever the ranks.
    """
    device = step.device
    places = torch.arange(first, first + rows, device=device).unsqueeze(1)
    run = _mix(torch.full((), seed, dtype=torch.int64, device=device))
    return _mix(_mix(_mix(run + step) + places) + torch.arange(columns, device=device))


def split_patches(keys: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
    """Choose visible and hidden patches by the order of their keys.

    Args:
        keys: (B, N) random numbers.
        ratio: Share of hidden patches, in (0, 1).

    Returns:
        Visible (B, N - M) and hidden (B, M) patch indices, int64, where M = round(ratio * N) but at
        least one patch is visible and one is hidden.
    """
    count = keys.shape[1]
    visible = min(max(count - round(ratio * count), 1), count - 1)
    order = keys.argsort(dim=1, stable=True)
    return order[:, :visible], order[:, visible:]


def _mix(state: Tensor) -> Tensor:
    state = state + _GOLDEN
    for shift, factor in _MIX:
        state = (state ^ _shift(state, shift)) * factor
    return state ^ _shift(state, 31)


def _shift(state: Tensor, by: int) -> Tensor:
    # Torch shifts signed integers arithmetically; the mask makes it the logical shift of the definition.
    return (state >> by) & ((1 << (64 - by)) - 1)
