from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isograft.errors import IsograftError
from isograft.plan import Edits, Plan
from isograft.run import RunFolder
from isograft.settings import PretrainSettings
from isograft.train.pace import Pace, TimeLimit
from isograft.train.pretrain_plan import MOST_MORE, Costs, plan_steps


def planned(total: int) -> Plan:
    plan = Plan()
    plan.decide("total_steps", total, "here")
    plan.decide("resolution", [[8, 0.5], [16, 0.5]], "here")
    plan.state("step_seconds", [[8, 1.0], [16, 3.0]], "measured")
    plan.state("reserve_seconds", 10.0, "measured")
    return plan


@given(st.integers(1, 1000), st.lists(st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 3.0)), max_size=5))
def test_progress_never_falls_and_ends_at_one_however_often_a_run_is_shortened_or_lengthened(
    total: int, cuts: list[tuple[float, float]]
) -> None:
    pace = Pace(planned(total))
    step = 0
    for where, kept in cuts:
        step = step + int(where * (pace.total - step))
        before = pace.progress(step)
        if pace.total > step:
            pace.replan(step, max(1, int(kept * (pace.total - step))), "slow")
            assert abs(pace.progress(step) - before) < 1e-9
    course = [pace.progress(step) for step in range(pace.total + 1)]
    assert course == sorted(course)
    assert (course[0], course[-1]) == (0.0, 1.0)


def test_a_shortened_pace_survives_the_plan() -> None:
    plan = planned(100)
    Pace(plan).replan(40, 20, "slow")
    again = Pace(Plan.load(plan.dump()))
    assert [again.progress(step) for step in (0, 40, 50, 60)] == [0.0, 0.4, 0.7, 1.0]


class Clock:
    """A time that tests move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("isograft.train.pace.time.monotonic", lambda: self.now)


class At:
    """What a callback asks of a trainer."""

    def __init__(self, step: int) -> None:
        self.global_step = step


def finished_at(limit: float, slowness: float, clock: Clock, folder: Path, most: int = 100) -> tuple[float, int]:
    """Run 100 planned steps that take `slowness` times what was measured; return when they ended and how many were done."""
    plan = planned(100)
    plan.state("most_steps", most, "here")
    pace = Pace(plan)
    watch = TimeLimit(pace, plan, RunFolder(folder, resumed=False), limit=limit, began=0.0)
    step = 0
    while step < pace.total:
        clock.now += slowness * (1.0 if pace.progress(step) < 0.5 else 3.0)
        step += 1
        watch.on_train_batch_end(At(step), None, None, None, 0)  # type: ignore[arg-type]
    return clock.now, step


@pytest.mark.parametrize("slowness", [1.5, 3.0, 8.0])
def test_a_run_on_a_machine_that_became_slower_ends_in_time(slowness: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ended, steps = finished_at(210.0, slowness, Clock(monkeypatch), tmp_path)
    assert 0.85 * 200 < ended <= 200 + 3 * slowness
    assert steps < 100


def test_a_run_as_fast_as_measured_keeps_all_its_steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert finished_at(212.0, 1.0, Clock(monkeypatch), tmp_path)[1] == 100


def test_a_run_that_only_has_a_time_limit_uses_the_time_of_a_faster_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ended, steps = finished_at(210.0, 0.5, Clock(monkeypatch), tmp_path, most=300)
    assert 0.95 * 200 < ended <= 200
    assert 180 <= steps <= 205


@pytest.mark.parametrize(
    ("asked", "edits", "total", "most"),
    [
        ({"max_time": 110.0}, {}, 95, MOST_MORE * 95),
        ({"max_time": 110.0, "epochs": 50}, {}, 95, 500),
        ({"max_time": 110.0, "epochs": 5}, {}, 50, 50),
        ({"max_time": 110.0}, {"total_steps": 20}, 20, 20),
        ({}, {}, 1704, 2000),
    ],
)
def test_a_run_may_grow_to_what_was_asked_for_and_no_further(asked: dict, edits: dict, total: int, most: int) -> None:
    plan = Plan(edits=Edits(wanted=edits, origin="plan.json"))
    plan.decide("batch_size", 10, "here")
    plan.decide("resolution", [[16, 1.0]], "here")
    settings = PretrainSettings(data="d", out=Path("o"), **asked)
    plan_steps(plan, settings, 100, Costs(step={16: 1.0}, watch=0.1, reserve=5.0, spent=5.0))
    assert (plan["total_steps"], plan["most_steps"]) == (total, most)
    assert plan["pace"][-1] == [total, 1.0]


def test_a_pace_that_ends_elsewhere_than_the_run_is_refused() -> None:
    plan = Plan(edits=Edits(wanted={"pace": [[0, 0.0], [10, 1.0]]}, origin="plan.json"))
    plan.decide("batch_size", 10, "here")
    plan.decide("resolution", [[16, 1.0]], "here")
    with pytest.raises(IsograftError, match="the pace of the plan file ends at step 10, but the run has 50 steps"):
        plan_steps(plan, PretrainSettings(data="d", out=Path("o"), epochs=5), 100, None)


def test_a_run_of_so_many_epochs_does_no_more_on_a_faster_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert finished_at(210.0, 0.5, Clock(monkeypatch), tmp_path)[1] == 100


def test_time_before_an_interruption_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock, plan = Clock(monkeypatch), planned(100)
    clock.now = 50.0
    watch = TimeLimit(Pace(plan), plan, RunFolder(tmp_path, resumed=True), limit=100.0, began=40.0)
    watch.load_state_dict({"elapsed": 30.0})
    assert watch.elapsed == 40.0
    assert watch.state_dict() == {"elapsed": 40.0}


def test_time_in_which_the_machine_stood_still_is_told_and_does_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clock, plan = Clock(monkeypatch), planned(100)
    pace = Pace(plan)
    watch = TimeLimit(pace, plan, RunFolder(tmp_path, resumed=False), limit=212.0, began=0.0)
    watch.on_train_start(None, None)  # type: ignore[arg-type]
    for step in range(1, 101):
        clock.now += (1.0 if step <= 50 else 3.0) + 7200 * (step == 30)
        watch.on_train_batch_end(At(step), None, None, None, 0)  # type: ignore[arg-type]
    assert pace.total == 100
    assert 200 - 20 <= watch.elapsed <= 200
    assert watch.state_dict() == {"elapsed": watch.elapsed}
    assert "step 30: the machine stood still for 2h00m, which --max-time does not count" in " ".join(capfd.readouterr().err.split())


def test_setting_the_time_of_day_changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("time.time", lambda: -1e6)
    assert finished_at(212.0, 1.0, Clock(monkeypatch), tmp_path)[1] == 100


def test_a_run_that_goes_back_counts_its_time_once_and_measures_its_speed_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock, plan = Clock(monkeypatch), planned(100)
    watch = TimeLimit(Pace(plan), plan, RunFolder(tmp_path, resumed=False), limit=500.0, began=0.0)
    watch.on_train_start(None, None)  # type: ignore[arg-type]
    for step in range(1, 41):
        clock.now += 1.0
        watch.on_train_batch_end(At(step), None, None, None, 0)  # type: ignore[arg-type]
    watch.load_state_dict({"elapsed": 20.0})
    assert watch.elapsed == 40.0
    for step in range(21, 41):
        clock.now += 1.0
        watch.on_train_batch_end(At(step), None, None, None, 0)  # type: ignore[arg-type]
    assert (watch.elapsed, plan["total_steps"]) == (60.0, 100)


@pytest.mark.parametrize(
    ("images", "epochs", "every"),
    [
        (1000, 1, 4),  # three looks, however long they take
        (1000, 20, 34),  # 1,000 images forward are a twentieth of 34 steps of 100 images, 2 views, forward and backward
        (1000, 50, 50),  # ten looks
        (100, 20, 4),
    ],
)
def test_a_short_run_on_many_images_is_watched_less_often(images: int, epochs: int, every: int) -> None:
    plan = Plan()
    plan.decide("batch_size", 100, "here")
    plan.decide("resolution", [[16, 1.0]], "here")
    plan_steps(plan, PretrainSettings(data="d", out=Path("o"), epochs=epochs), images, None)
    assert plan["monitor_every"] == every
