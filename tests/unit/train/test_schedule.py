from hypothesis import given
from hypothesis import strategies as st

from isograft.train.schedule import ResolutionSchedule, parse_schedule, warmup_cosine

SCHEDULE = ResolutionSchedule((40, 64), (0.8, 0.2))


def test_the_rate_rises_to_one_and_ends_at_zero() -> None:
    factors = [warmup_cosine(step, 0.1, lambda step: step / 100) for step in range(100)]
    assert factors[9] == 1.0
    assert factors[:10] == sorted(factors[:10])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert warmup_cosine(100, 0.1, lambda step: step / 100) < 1e-12


@given(st.integers(2, 40))
def test_a_run_that_was_cut_short_within_its_warm_up_still_ends_at_zero(left: int) -> None:
    course = [step / 1000 if step < 20 else min(1.0, 0.02 + 0.98 * (step - 20) / left) for step in range(20 + left + 2)]
    factors = [warmup_cosine(step, 0.1, lambda step: course[step]) for step in range(20 + left + 1)]
    assert factors[-1] < 1e-12
    assert all(0 <= factor <= 1 for factor in factors)


def test_no_warm_up_begins_at_the_peak() -> None:
    assert warmup_cosine(0, 0.0, lambda step: step / 10) == 1.0


@given(st.integers(1, 5000))
def test_small_views_come_first_and_the_full_size_last(total: int) -> None:
    sizes = [SCHEDULE.size_at(step / total) for step in range(total)]
    assert sizes == sorted(sizes)
    assert sizes[-1] == 64 or total < 5


@given(st.integers(1, 500))
def test_every_size_gets_its_share_of_the_steps(tens: int) -> None:
    total = 10 * tens
    assert [SCHEDULE.size_at(step / total) for step in range(total)].count(40) == 8 * tens


def test_a_schedule_survives_the_plan() -> None:
    assert parse_schedule([[40, 0.8], [64, 0.2]]) == SCHEDULE
