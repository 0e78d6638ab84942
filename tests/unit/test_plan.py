import json
from pathlib import Path

import pytest

from isograft.errors import IsograftError
from isograft.plan import Decision, Edits, Plan
from isograft.settings import PretrainSettings


def test_what_the_user_asked_for_wins_over_the_automatic_value() -> None:
    plan = Plan()
    assert plan.choose("batch_size", 7, 32, "usual") == 7
    assert plan.choose("lr", "auto", 1e-3, "usual") == 1e-3
    assert [decision.reason for decision in plan] == ["as asked", "usual"]


def test_a_plan_survives_its_own_dump() -> None:
    plan = Plan([Decision(name="resolution", value=[[40, 0.8], [64, 0.2]], reason="small first")])
    plan.decide("total_steps", 12, "measured")
    again = Plan.load(plan.dump())
    assert again.dump() == plan.dump()
    assert again["resolution"] == [[40, 0.8], [64, 0.2]]


def test_deciding_twice_keeps_the_last_value() -> None:
    plan = Plan()
    plan.decide("epochs", 1, "first")
    plan.decide("epochs", 2, "second")
    assert plan["epochs"] == 2
    assert len(plan.dump()) == 1


def edits(tmp_path: Path, content: object) -> Edits:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(content))
    return Edits.read(path)


def test_an_edited_value_replaces_the_automatic_one_but_not_an_option(tmp_path: Path) -> None:
    plan = Plan(edits=edits(tmp_path, {"layer_decay": 0.5, "lr": 1}))
    assert plan.decide("layer_decay", 0.8, "usual") == 0.5
    assert plan.choose("lr", 0.1, 0.01, "usual") == 0.1
    assert [decision.reason for decision in plan] == ["from plan.json", "as asked"]


def test_an_edit_of_another_kind_is_refused(tmp_path: Path) -> None:
    plan = Plan(edits=edits(tmp_path, {"layer_decay": "low"}))
    with pytest.raises(IsograftError, match=r"plan.json sets layer_decay to 'low', but it must be like 0.8"):
        plan.decide("layer_decay", 0.8, "usual")


def test_what_follows_from_the_input_cannot_be_edited(tmp_path: Path) -> None:
    plan = Plan(edits=edits(tmp_path, {"train_images": 9}))
    with pytest.raises(IsograftError, match="sets train_images to 9, but that is no choice: it is 7"):
        plan.state("train_images", 7, "of 5 groups")


def test_an_edit_nobody_asks_for_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    plan = Plan(edits=edits(tmp_path, {"layer_decai": 0.5}))
    plan.decide("layer_decay", 0.8, "usual")
    with pytest.raises(IsograftError, match=r"sets layer_decai, .* did you mean layer_decay"):
        plan.refuse_unknown()


def test_the_plan_of_another_run_is_used_as_far_as_it_goes(tmp_path: Path) -> None:
    before = Plan()
    before.decide("lr", 0.3, "usual")
    before.state("train_images", 9, "of 5 groups")
    plan = Plan(edits=edits(tmp_path, {"plan": before.dump()}))
    assert plan.decide("lr", 0.1, "usual") == 0.3
    assert plan.state("train_images", 7, "of 5 groups") == 7
    plan.refuse_unknown()


def test_an_edited_option_is_checked_like_an_option(tmp_path: Path) -> None:
    asked = PretrainSettings(data="pool", out=tmp_path / "out", batch_size=8)
    settled, _ = edits(tmp_path, {"image_size": 96, "batch_size": 4}).settle(asked)
    assert (settled.image_size, settled.batch_size) == (96, 8)
    with pytest.raises(IsograftError, match=r"plan.json: image_size is 'wide' but must be"):
        edits(tmp_path, {"image_size": "wide"}).settle(asked)


def test_an_option_and_an_edit_that_it_decides_contradict_each_other(tmp_path: Path) -> None:
    asked = PretrainSettings(data="pool", out=tmp_path / "out", epochs=5)
    with pytest.raises(IsograftError, match=r"--epochs and total_steps of plan.json contradict each other"):
        edits(tmp_path, {"total_steps": 300}).settle(asked)
    whole = [{"name": "total_steps", "value": 300, "reason": "usual"}, {"name": "lr", "value": 0.1, "reason": "usual"}]
    settled, kept = edits(tmp_path, {"plan": whole}).settle(asked)
    assert (settled.epochs, settled.lr, kept.wanted) == (5, 0.1, {"lr": 0.1})


def test_the_plan_of_another_run_needs_the_same_start(tmp_path: Path) -> None:
    whole = [{"name": "init", "value": "imagenet", "reason": "usual"}]
    with pytest.raises(IsograftError, match=r"sets init to 'imagenet', .* it is 'scratch' .*give --init"):
        Plan(edits=edits(tmp_path, {"plan": whole})).state("init", "scratch", "random weights")


def test_decisions_of_a_loaded_plan_stand_whatever_would_be_decided_now(tmp_path: Path) -> None:
    first = Plan(edits=edits(tmp_path, {"layer_decay": 0.5}))
    first.decide("layer_decay", 0.8, "usual")
    again = Plan.load(first.dump())
    assert again.decide("layer_decay", 0.8, "usual") == 0.5
    assert again.dump() == first.dump()


@pytest.mark.parametrize("content", ["[1, 2]", "3", "{", '{"plan": [{"value": 1}]}'])
def test_a_file_that_is_no_plan_is_one_sentence(content: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(IsograftError, match=r"--plan .* is no plan; write for example"):
        Edits.read(tmp_path / "plan.json")
    with pytest.raises(IsograftError, match=r"--plan .* cannot be read: No such file"):
        Edits.read(tmp_path / "absent.json")
