"""Masks are a pure function of seed, step and place, and are spread evenly."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.models.utils import random_token_mask

from isograft.ssl.masking import _mix, random_keys, split_patches


def keys(seed: int = 0, step: int = 0, first: int = 0, rows: int = 8, columns: int = 16) -> torch.Tensor:
    return random_keys(seed, torch.tensor(step), first, rows, columns)


def test_the_mixer_is_splitmix64() -> None:
    # First outputs of SplitMix64 seeded with 0 (the state grows by the golden constant per output).
    golden = 0x9E3779B97F4A7C15
    states = torch.tensor([(k * golden + (1 << 63)) % (1 << 64) - (1 << 63) for k in range(3)])
    known = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [value % (1 << 64) for value in _mix(states).tolist()] == known


def test_the_same_arguments_give_the_same_keys_and_others_give_others() -> None:
    assert torch.equal(keys(), keys())
    for other in (keys(seed=1), keys(step=1), keys(first=8)):
        assert int((other == keys()).sum()) == 0


def test_ranks_draw_slices_of_the_whole_batch() -> None:
    assert torch.equal(torch.cat([keys(first=0, rows=4), keys(first=4, rows=4)]), keys())


@given(count=st.integers(2, 60), ratio=st.floats(0.05, 0.95))
@settings(max_examples=50, deadline=None)
def test_visible_and_hidden_patches_are_a_partition_and_neither_is_empty(count: int, ratio: float) -> None:
    visible, hidden = split_patches(keys(rows=3, columns=count), ratio)
    assert torch.equal(torch.cat([visible, hidden], dim=1).sort(dim=1).values, torch.arange(count).expand(3, -1))
    assert visible.shape[1] >= 1 and hidden.shape[1] >= 1
    assert hidden.shape[1] == pytest.approx(ratio * count, abs=1)


def test_as_many_patches_are_hidden_as_lightly_hides() -> None:
    visible, hidden = split_patches(keys(columns=196), 0.75)
    keep, mask = random_token_mask((8, 196), 0.75, mask_class_token=True)
    assert (visible.shape, hidden.shape) == (keep.shape, mask.shape)


def test_every_patch_is_hidden_equally_often() -> None:
    _, hidden = split_patches(keys(rows=4000, columns=16), 0.75)
    share = torch.bincount(hidden.flatten(), minlength=16) / 4000
    # Six standard errors of a share of 0.75 in 4000 draws.
    assert float((share - 0.75).abs().max()) < 6 * (0.75 * 0.25 / 4000) ** 0.5
