import pytest

from isograft.errors import IsograftError
from isograft.plan import Edits, Plan
from isograft.plan_values import BOUNDS, check_value


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("total_steps", 0),
        ("history_every", 0),
        ("monitor_every", 0),
        ("warmup", 1.0),
        ("new_layer_lr", 0),
        ("head_lr", -1e-3),
        ("weight_decay", -0.1),
        ("layer_decay", 1.5),
        ("schedule", "linear"),
        ("optimizer", "adam"),
        ("resolution", []),
        ("resolution", [[40, 0.5], [64, 0.4]]),
        ("resolution", [[4, 1.0]]),
        ("pace", [[0, 0.0], [5, 0.5]]),
        ("pace", [[0, 0.0], [5, 0.6], [4, 1.0]]),
        ("rotation", 200),
        ("min_crop", 0),
        ("views", {"crop": [0.0, 1.0]}),
        ("views", {"wobble": 1}),
        ("views", {"crop": [1.0, 0.3]}),
        ("total_steps", 12.0),
        ("head_lr", float("inf")),
        ("resolution", [[4096, 1.0]]),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name_and_origin(name: str, wanted: object) -> None:
    with pytest.raises(IsograftError, match=f"plan.json sets {name} to .*, which cannot be"):
        assert check_value(name, wanted, "plan.json") is None  # it raises otherwise


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("total_steps", 12),
        ("warmup", 0.0),
        ("schedule", "constant"),
        ("resolution", [[40, 0.8], [64, 0.2]]),
        ("pace", [[0, 0.0], [4, 0.7], [9, 1.0]]),
        ("views", {"crop": [0.3, 1.0], "rotation": 180}),
        ("anything_else", object()),
    ],
)
def test_a_value_that_can_be_passes(name: str, wanted: object) -> None:
    check_value(name, wanted, "plan.json")


@pytest.mark.parametrize("name", ["schedule", "optimizer"])
def test_a_decision_checks_the_value_of_a_plan_file(name: str) -> None:
    plan = Plan(edits=Edits(wanted={name: "nonsense"}, origin="plan.json"))
    assert name in BOUNDS
    with pytest.raises(IsograftError, match=f"plan.json sets {name} to 'nonsense'"):
        plan.decide(name, "cosine", "usual")
