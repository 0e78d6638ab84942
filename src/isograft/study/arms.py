"""Arms as chains: where a network starts and what it is trained on, step by step, before the task under study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from isograft.spelling import near
from isograft.study.lines import Misplaced

if TYPE_CHECKING:
    from isograft.study.spec import StudySpec

STARTS = ("scratch", "imagenet")


@dataclass(frozen=True)
class Step:
    """One step of a chain.

    Attributes:
        kind: `start`, `pool` (self-supervised training on a pool) or `task` (training on another task's labels).
        name: For a start `scratch`, `imagenet` or the path of a model folder or weights file; else the pool's or task's name.
    """

    kind: Literal["start", "pool", "task"]
    name: str

    def __str__(self) -> str:
        return self.name if self.kind == "start" else f"{self.kind}:{self.name}"


def parse_chain(chain: Sequence[str]) -> tuple[Step, ...]:
    """Turn `[imagenet, "pool:skin"]` into steps. The first is always a start: `scratch` when none is named.

    Raises:
        Misplaced: A later step is neither `pool:NAME` nor `task:NAME`; its place is the position in the chain.
    """
    steps: list[Step] = []
    for index, text in enumerate(chain):
        kind, _, name = text.partition(":")
        if kind == "pool" and name:
            steps.append(Step("pool", name))
        elif kind == "task" and name:
            steps.append(Step("task", name))
        elif index == 0 and text and kind not in {"pool", "task"}:
            steps.append(Step("start", text))
        else:
            raise Misplaced((index,), _no_step(text, index))
    if not steps or steps[0].kind != "start":
        steps.insert(0, Step("start", "scratch"))
    return tuple(steps)


def _no_step(text: str, index: int) -> str:
    if text in STARTS and index:
        return f"{text} can only come first in a chain; later steps are pool:NAME or task:NAME"
    what = "scratch, imagenet, a model folder, a weights file, " if not index else ""
    return f"'{text}' is no step of a chain; write {what}pool:NAME or task:NAME{near(text, list(STARTS) if not index else [])}"


def is_baseline(chain: Sequence[str]) -> bool:
    """Whether a chain is a start that anyone has: random weights or ImageNet's, and nothing after it."""
    steps = parse_chain(chain)
    return len(steps) == 1 and steps[0].name in STARTS


def arms_of(spec: StudySpec, task: str, backbone: str) -> dict[str, tuple[Step, ...]]:
    """The arms that can be compared on a task with a backbone, in the order of the file."""
    chains = {name: parse_chain(chain) for name, chain in spec.arms.items()}
    return {name: steps for name, steps in chains.items() if not _holds(steps, task) and not _lacks_weights(steps, backbone)}


def left_out(spec: StudySpec) -> list[str]:
    """Sentences: which arm is left out where, and why."""
    sentences = []
    for name, chain in spec.arms.items():
        steps = parse_chain(chain)
        sentences += [
            f"The arm {name} is left out of the task {task}, because its chain trains on that task."
            for task in spec.tasks
            if _holds(steps, task)
        ]
        sentences += [
            f"The arm {name} is left out with the backbone {backbone}, because there are no ImageNet weights of it."
            for backbone in spec.backbones
            if _lacks_weights(steps, backbone)
        ]
    return sentences


def has_imagenet_weights(backbone: str) -> bool:
    """Whether timm knows pretrained weights of a backbone; the paper's networks have none."""
    import timm

    from isograft.networks import alzubaidi  # noqa: F401  (registers the paper's networks with timm)

    return bool(timm.models.is_model_pretrained(backbone))


def _holds(steps: Sequence[Step], task: str) -> bool:
    return Step("task", task) in steps


def _lacks_weights(steps: Sequence[Step], backbone: str) -> bool:
    return steps[0] == Step("start", "imagenet") and not has_imagenet_weights(backbone)
