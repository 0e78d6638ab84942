"""The tissue mask, and the share of tissue in a tile."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.data.slide_files import tissue

from isograft.data.tissue import shares, tissue_mask


def test_stained_patches_are_tissue_and_glass_is_not():
    mask = tissue_mask(tissue(512))
    assert mask[140:500, 10:240].mean() > 0.99 and mask[:, 270:].mean() == 0 and mask[:110].mean() == 0


def test_grey_noise_is_no_tissue():
    assert not tissue_mask(np.random.default_rng(0).integers(230, 250, (200, 200, 3), dtype=np.uint8)).any()


@given(st.integers(0, 2**32), st.integers(0, 24), st.integers(0, 24), st.integers(1, 8))
def test_shares_are_means_of_the_mask(seed, left, top, side):
    mask = np.random.default_rng(seed).random((32, 32)) < 0.4
    found = shares(mask, np.array([float(left)]), np.array([float(top)]), float(side))
    assert np.isclose(found[0], mask[top : top + side, left : left + side].mean())
