"""Random numbers without state."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isograft.data.draws import permutation, philox4x32, uniforms

# philox4x32-10 known answers, file kat_vectors of Random123: counter, key, result.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
IDS = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=9)


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_gives_the_known_answers_of_random123(counter: tuple[int, ...], key: tuple[int, int], answer: tuple[int, ...]) -> None:
    words = philox4x32(tuple(np.array([word], np.uint64) for word in counter), key)
    assert [int(word[0]) for word in words] == list(answer)


def test_a_draw_is_philox_of_epoch_id_stream_and_seed() -> None:
    seed, epoch, identity, stream = 0x299F31D0_A4093822, 0x85A308D3, 0x03707344_13198A2E, 0x243F
    block = 0x6A88  # so that the counter is the one of the third known answer
    drawn = uniforms(seed, epoch, np.array([identity], np.uint64), stream, 4 * block + 4)
    assert (drawn[0, -4:] * 2**32).astype(np.uint64).tolist() == list(KNOWN_ANSWERS[2][2])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 2**32 - 1), ids=IDS, stream=st.integers(0, 65535), cut=st.integers(0, 9))
def test_draws_do_not_depend_on_the_batch_they_are_made_in(seed: int, epoch: int, ids: list[int], stream: int, cut: int) -> None:
    whole = uniforms(seed, epoch, np.array(ids, np.uint64), stream, 7)
    parts = [uniforms(seed, epoch, np.array(part, np.uint64), stream, 5) for part in (ids[:cut], ids[cut:]) if part]
    assert np.array_equal(whole[:, :5], np.concatenate(parts))
    assert ((whole >= 0) & (whole < 1)).all()


def test_streams_may_differ_by_row() -> None:
    ids = np.array([5, 5, 6], np.uint64)
    mixed = uniforms(1, 2, ids, np.array([3, 4, 3]), 2)
    assert np.array_equal(mixed[[0, 2]], uniforms(1, 2, ids[[0, 2]], 3, 2))
    assert np.array_equal(mixed[[1]], uniforms(1, 2, ids[[1]], 4, 2))


def test_every_part_of_the_key_matters() -> None:
    ids = np.array([7], np.uint64)
    draws = [
        uniforms(0, 0, ids, 0, 1),
        uniforms(1, 0, ids, 0, 1),
        uniforms(1 << 40, 0, ids, 0, 1),
        uniforms(0, 1, ids, 0, 1),
        uniforms(0, 0, ids, 1, 1),
        uniforms(0, 0, ids + np.uint64(1 << 40), 0, 1),
    ]
    assert len({draw.item() for draw in draws}) == len(draws)


def test_draws_are_uniform_and_uncorrelated() -> None:
    drawn = uniforms(3, 1, np.arange(20_000, dtype=np.uint64), 9, 4)
    assert np.abs(drawn.mean(0) - 0.5).max() < 0.01
    assert np.abs(drawn.var(0) - 1 / 12).max() < 0.002
    assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.03


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 2**32 - 1), n=st.integers(0, 200))
def test_a_permutation_visits_every_row_once(seed: int, epoch: int, n: int) -> None:
    order = permutation(seed, epoch, n)
    assert sorted(order.tolist()) == list(range(n))
    assert np.array_equal(order, permutation(seed, epoch, n))


def test_epochs_and_seeds_differ_in_order() -> None:
    orders = {tuple(permutation(seed, epoch, 50)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


@pytest.mark.parametrize("stream", [-1, 65536])
def test_a_stream_out_of_range_is_refused(stream: int) -> None:
    with pytest.raises(ValueError, match="stream"):
        uniforms(0, 0, np.zeros(1, np.uint64), stream, 1)


def test_an_epoch_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="epoch"):
        uniforms(0, 2**32, np.zeros(1, np.uint64), 0, 1)
