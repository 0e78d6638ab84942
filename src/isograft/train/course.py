"""What a training changes of its plan on the way, to come to its end: how much of a batch the network sees at once, and lower rates.

Every change holds from a step on and stands in the plan, and so in `run.json`: a run that was broken off makes it again at the same
step, whatever the memory of its new machine, and a run with the plan of this one makes it in advance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isograft import console
from isograft.plan import Plan
from isograft.run import RunFolder

if TYPE_CHECKING:
    from isograft.train.callbacks import History

MICRO_BATCH, LR_SCALE = "micro_batch", "lr_scale"
PHASE = "change"
"""The phase of the rows of history.csv that tell of changes."""


class Course:
    """The changes of one network's training.

    Args:
        plan: Holds the changes, as `[[step, value], ...]`.
        run: Where the plan is kept; None keeps it nowhere.
        which: What sets this network's changes apart from those of others with the same plan, such as `_fold_2`.
    """

    def __init__(self, plan: Plan, run: RunFolder | None = None, which: str = "") -> None:
        self.plan, self.run, self.which = plan, run, which

    def micro_batch(self, step: int) -> int | None:
        """Images (or views of them) that the network sees at once at a step; None for all of the batch."""
        return next((int(value) for at, value in reversed(self._changes(MICRO_BATCH)) if at <= step), None)

    def lr_scale(self, step: int) -> float:
        """Factor of all learning rates at a step."""
        return next((float(value) for at, value in reversed(self._changes(LR_SCALE)) if at <= step), 1.0)

    @property
    def returns(self) -> int:
        """How often the rates were lowered."""
        return len(self._changes(LR_SCALE))

    def change(self, name: str, step: int, value: float, reason: str) -> None:
        """Make a change that holds from a step on, say it, and keep it."""
        console.warn(reason)
        self.plan.revise(name + self.which, [*self._changes(name), [step, value]], reason)
        if self.run is not None:
            self.run.remember(plan=self.plan.dump())

    def note(self, history: History, step: int, epoch: float) -> None:
        """Tell the history of what changes at a step, unless it knows."""
        for name in (MICRO_BATCH, LR_SCALE):
            for at, value in self._changes(name):
                known = any(row["phase"] == PHASE and row["step"] == at and row.get(name) == value for row in history.rows)
                if at == step and not known:
                    history.add(step, epoch, PHASE, **{name: value})

    def _changes(self, name: str) -> list[list[Any]]:
        changes: list[list[Any]] = self.plan.get(name + self.which, [])
        return changes


def adopt_changes(plan: Plan, members: int = 1) -> None:
    """Take over the changes that a plan file holds, for one network or for those of several folds."""
    for which in map(which_of, range(members)) if members > 1 else ("",):
        for name in (MICRO_BATCH + which, LR_SCALE + which):
            if plan.edited(name):
                plan.decide(name, [], "none")


def which_of(number: int) -> str:
    """What sets the changes of a fold's network apart, by its number from 0."""
    return f"_fold_{number + 1}"
