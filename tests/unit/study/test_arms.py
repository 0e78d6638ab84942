"""Chains: how they are read, and which arms are left out where."""

from pathlib import Path
from typing import Any

import pytest

from isograft.study.arms import Step, arms_of, has_imagenet_weights, is_baseline, left_out, parse_chain
from isograft.study.lines import Misplaced
from isograft.study.spec import StudySpec

SCRATCH, IMAGENET = Step("start", "scratch"), Step("start", "imagenet")


@pytest.mark.parametrize(
    ("chain", "steps"),
    [
        ((), (SCRATCH,)),
        (("scratch",), (SCRATCH,)),
        (("imagenet",), (IMAGENET,)),
        (("pool:skin",), (SCRATCH, Step("pool", "skin"))),
        (("imagenet", "pool:skin", "task:lesions"), (IMAGENET, Step("pool", "skin"), Step("task", "lesions"))),
        (("models/mine", "pool:skin"), (Step("start", "models/mine"), Step("pool", "skin"))),
        (("C:\\models\\mine",), (Step("start", "C:\\models\\mine"),)),
        (("task:a", "pool:p", "pool:p"), (SCRATCH, Step("task", "a"), Step("pool", "p"), Step("pool", "p"))),
    ],
)
def test_a_chain_always_begins_with_a_start(chain: tuple[str, ...], steps: tuple[Step, ...]) -> None:
    assert parse_chain(chain) == steps


@pytest.mark.parametrize(
    ("chain", "index", "message"),
    [
        (("pool:a", "imagenet"), 1, "imagenet can only come first"),
        (("imagenet", "lesions"), 1, "'lesions' is no step of a chain; write pool:NAME or task:NAME$"),
        (("pool:",), 0, "'pool:' is no step of a chain; write scratch, imagenet, a model folder"),
        (("",), 0, "'' is no step"),
        (("pool:a", "task:"), 1, "'task:' is no step"),
    ],
)
def test_what_is_no_step_is_named_with_its_position(chain: tuple[str, ...], index: int, message: str) -> None:
    with pytest.raises(Misplaced, match=message) as caught:
        parse_chain(chain)
    assert caught.value.place == (index,)


def test_a_step_reads_as_in_the_file() -> None:
    assert [str(step) for step in parse_chain(("imagenet", "pool:a", "task:b"))] == ["imagenet", "pool:a", "task:b"]


def test_only_a_bare_common_start_is_a_baseline() -> None:
    assert [is_baseline(chain) for chain in ((), ("scratch",), ("imagenet",), ("models/mine",), ("imagenet", "pool:a"))] == [
        True, True, True, False, False,
    ]  # fmt: skip


@pytest.fixture
def spec(tmp_path: Path) -> StudySpec:
    entry: dict[str, Any] = {"data": str(tmp_path)}
    return StudySpec.model_validate(
        {
            "title": "t",
            "pools": {"p": entry},
            "tasks": {"foot": entry, "skin": entry},
            "arms": {
                "double": ["imagenet", "pool:p", "task:skin"],
                "imagenet": ["imagenet"],
                "scratch": [],
                "pool": ["pool:p"],
            },
            "backbones": ["resnet18", "alzubaidi_dcnn"],
        }
    )


def test_an_arm_is_left_out_of_a_task_that_its_chain_trains_on(spec: StudySpec) -> None:
    assert list(arms_of(spec, "foot", "resnet18")) == ["double", "imagenet", "scratch", "pool"]
    assert list(arms_of(spec, "skin", "resnet18")) == ["imagenet", "scratch", "pool"]


def test_an_arm_from_imagenet_is_left_out_with_a_backbone_that_has_no_such_weights(spec: StudySpec) -> None:
    assert list(arms_of(spec, "foot", "alzubaidi_dcnn")) == ["scratch", "pool"]
    assert has_imagenet_weights("tf_efficientnet_lite0") and not has_imagenet_weights("alzubaidi_light")


def test_what_is_left_out_is_said_with_the_reason(spec: StudySpec) -> None:
    assert left_out(spec) == [
        "The arm double is left out of the task skin, because its chain trains on that task.",
        "The arm double is left out with the backbone alzubaidi_dcnn, because there are no ImageNet weights of it.",
        "The arm imagenet is left out with the backbone alzubaidi_dcnn, because there are no ImageNet weights of it.",
    ]
