import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isograft.errors import IsograftError
from isograft.plan import Edits, Plan
from isograft.run import RunFolder
from isograft.train.callbacks import History
from isograft.train.course import LR_SCALE, MICRO_BATCH, Course, adopt_changes, which_of


@given(st.lists(st.tuples(st.integers(0, 50), st.sampled_from([1.0, 0.5, 0.25])), max_size=5), st.integers(0, 60))
def test_a_change_holds_from_its_step_on_until_the_next_and_survives_the_plan(changes: list[tuple[int, float]], step: int) -> None:
    changes.sort(key=lambda change: change[0])
    plan = Plan()
    for at, value in changes:
        Course(plan).change(LR_SCALE, at, value, "a test")
    expected = ([1.0] + [value for at, value in changes if at <= step])[-1]
    assert Course(plan).lr_scale(step) == expected
    assert Course(Plan.load(json.loads(json.dumps(plan.dump())))).lr_scale(step) == expected
    assert Course(plan).returns == len(changes)


def test_networks_of_one_plan_have_changes_of_their_own(tmp_path: Path) -> None:
    plan, run = Plan(), RunFolder(tmp_path, resumed=False)
    first, second = Course(plan, run, which_of(0)), Course(plan, run, which_of(1))
    second.change(MICRO_BATCH, 3, 8, "memory was full")
    assert (first.micro_batch(3), second.micro_batch(2), second.micro_batch(3)) == (None, None, 8)
    (kept,) = json.loads((tmp_path / "run.json").read_text())["plan"]
    assert kept == {"name": "micro_batch_fold_2", "value": [[3, 8]], "reason": "memory was full"}


def test_the_history_hears_of_a_change_once(tmp_path: Path) -> None:
    course, history = Course(Plan()), History(RunFolder(tmp_path, resumed=False))
    course.change(LR_SCALE, 4, 0.5, "a test")
    course.change(LR_SCALE, 4, 0.25, "a test")
    for step in (3, 4, 4, 5):
        course.note(history, step, step / 2)
    assert history.rows == [{"step": 4, "epoch": 2.0, "phase": "change", "lr_scale": value} for value in (0.5, 0.25)]


@pytest.mark.parametrize(("name", "members"), [("micro_batch", 1), ("micro_batch_fold_2", 2)])
def test_a_plan_file_may_hold_changes_within_bounds(name: str, members: int) -> None:
    plan = Plan(edits=Edits(wanted={name: [[0, 8]]}, origin="plan.json"))
    adopt_changes(plan, members)
    plan.refuse_unknown()
    assert Course(plan, which=name.removeprefix("micro_batch")).micro_batch(0) == 8
    broken = Plan(edits=Edits(wanted={name: [[0, 0.5]]}, origin="plan.json"))
    with pytest.raises(IsograftError, match=f"plan.json sets {name} to"):
        adopt_changes(broken, members)
