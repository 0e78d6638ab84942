from hypothesis import given
from hypothesis import strategies as st

from isograft.train.schedule import ResolutionSchedule, parse_schedule, warmup_cosine

SCHEDULE = ResolutionSchedule((40, 64), (0.8, 0.2))


def test_the_rate_rises_to_one_and_ends_at_zero() -> None:
    factors = [warmup_cosine(step, 100, 10) for step in range(100)]
    assert factors[9] == 1.0
    assert factors[:10] == sorted(factors[:10])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert warmup_cosine(100, 100, 10) < 1e-12


@given(st.integers(1, 5000))
def test_small_views_come_first_and_the_full_size_last(total: int) -> None:
    sizes = [SCHEDULE.size_at(step, total) for step in range(min(total, 300))]
    assert sizes == sorted(sizes)
    assert SCHEDULE.size_at(total - 1, total) == 64 or total < 3


@given(st.integers(2, 5000), st.data())
def test_the_size_is_constant_up_to_the_next_change(total: int, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, total - 1))
    change = SCHEDULE.next_change(step, total)
    assert step < change <= total
    assert SCHEDULE.size_at(step, total) == SCHEDULE.size_at(change - 1, total)
    if change < total:
        assert SCHEDULE.size_at(change, total) != SCHEDULE.size_at(step, total)


def test_a_schedule_survives_the_plan() -> None:
    assert parse_schedule([[40, 0.8], [64, 0.2]]) == SCHEDULE
