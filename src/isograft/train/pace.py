"""How far a run has come at each step; a run with a time limit leaves out steps that it has no time for, or adds some when it has."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytorch_lightning as pl

from isograft import console
from isograft.plan import Plan
from isograft.run import RunFolder
from isograft.train import agreement
from isograft.train.standstill import Standstill

CHECKS = 20
WORTH_A_CHANGE = 0.97


class Pace:
    """Progress in [0, 1] as a piecewise linear function of the step.

    Learning rate, view size and teachers follow the progress, so that a run which leaves steps out still ends with a rate of zero and at
    the full view size. The knots stand in the plan: a resumed run has the pace it had before.

    Args:
        plan: Holds `total_steps`, `pace` once steps were left out or added, and `most_steps` where their number may grow.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    @property
    def total(self) -> int:
        """Steps of the whole run, as presently planned."""
        return int(self._plan["total_steps"])

    @property
    def most(self) -> int:
        """Steps the run may have at most."""
        return max(self.total, int(self._plan.get("most_steps", self.total)))

    def progress(self, step: int) -> float:
        """Return the share of the run that is done after `step` steps."""
        steps, shares = zip(*self._knots(), strict=True)
        return float(np.interp(step, steps, shares))

    def replan(self, step: int, left: int, reason: str) -> None:
        """Do what is left of the run in another number of steps.

        Args:
            step: Steps already done.
            left: Steps still to do, at least one.
            reason: Why, for the plan.
        """
        knots = [[at, share] for at, share in self._knots() if at < step] + [[step, self.progress(step)], [step + left, 1.0]]
        self._plan.revise("pace", knots, reason)
        self._plan.revise("total_steps", step + left, reason)
        if "steps_per_epoch" in self._plan:
            self._plan.revise("epochs", round((step + left) / self._plan["steps_per_epoch"], 2), reason)

    def _knots(self) -> list[list[float]]:
        knots: list[list[float]] = self._plan.get("pace", [[0, 0.0], [self.total, 1.0]])
        return knots


class TimeLimit(pl.Callback):
    """Compares the clock with the plan: leaves steps out when the run would end too late, and adds some when time allows.

    A run never does more steps than its epochs ask for; one that only has a time limit uses the time.

    Args:
        pace: The pace of the run.
        plan: Holds `resolution`, `step_seconds` (a step at each view size) and `reserve_seconds` (what follows the last step).
        run: The output folder; keeps the changed plan.
        limit: Seconds the whole command may take.
        began: `time.monotonic()` at the start of the command.
    """

    def __init__(self, pace: Pace, plan: Plan, run: RunFolder, *, limit: float, began: float) -> None:
        self.pace, self.plan, self.run = pace, plan, run
        self.limit, self.reserve, self.began = limit, float(plan["reserve_seconds"]), began
        self.before = self.stood_still = 0.0
        self._under_way = False
        self._standstill = Standstill(max((float(cost) for _, cost in plan.get("step_seconds", [])), default=0.0) + self.reserve)
        self.planned, self.most = pace.total, pace.most
        self._first = (-1, 0.0)  # step and seconds after the first step, which warms up and says nothing about the speed
        self._checked = 0

    @property
    def elapsed(self) -> float:
        """Seconds of the command so far, those before it was interrupted included, without those in which the machine stood still."""
        return self.before + time.monotonic() - self.began - self.stood_still

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Watch the time between steps from here."""
        self._under_way = True
        self._standstill.begin()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Look at the clock now and then, more often near the end."""
        step = trainer.global_step
        if lost := self._standstill.look():
            self.stood_still += lost
            console.warn(f"step {step}: the machine stood still for {console.duration(lost)}, which --max-time does not count")
        if self._first[0] < 0:
            self._first, self._checked = (step, self.elapsed), step
            return
        interval = min(self.planned // CHECKS, (self.pace.total - self._checked) // 3)
        if step - self._checked >= max(1, interval) and step < self.pace.total:
            self._checked = step
            self.check(step)

    def check(self, step: int) -> None:
        """Change the number of steps when the run so far, all that surrounds the steps included, says that it would end at another time."""
        decided = agreement.on_first(lambda: self._decide(step))
        if decided is not None:
            left, reason = decided
            self.pace.replan(step, left, reason)
            self.run.remember(plan=self.plan.dump())
            console.say(f"step {step}: {reason}")

    def _decide(self, step: int) -> tuple[int, str] | None:
        """How many steps to do from here, and why; None to go on as planned."""
        first, then = self._first
        slowness = (self.elapsed - then) / self._planned_seconds(first, step)
        needed = slowness * self._planned_seconds(step, self.pace.total)
        share = max(0.0, self.limit - self.elapsed - self.reserve) / needed
        left = min(max(1, int(share * (self.pace.total - step))), self.most - step)
        if share < WORTH_A_CHANGE or (share > 1 / WORTH_A_CHANGE and left > self.pace.total - step):
            reason = f"steps take {slowness:.2f} times as long as measured, all included: {left} left in place of {self.pace.total - step}"
            return left, reason
        return None

    def _planned_seconds(self, first: int, last: int) -> float:
        """Time of the steps from `first` to before `last` by the first measurement, each at its view size."""
        seconds, edge = {int(size): float(cost) for size, cost in self.plan["step_seconds"]}, 0.0
        begin, end = self.pace.progress(first), self.pace.progress(last)
        mean = 0.0
        for size, share in self.plan["resolution"]:
            overlap = max(0.0, min(end, edge + share) - max(begin, edge))
            mean += overlap * seconds[int(size)]
            edge += share
        return max(mean / max(end - begin, 1e-12) * (last - first), 1e-9)

    def state_dict(self) -> dict[str, Any]:
        """The seconds used so far."""
        return {"elapsed": self.elapsed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count the seconds before the interruption too; a run that goes back to an earlier state has counted its own."""
        if self._under_way:
            self._first = (-1, 0.0)
        else:
            self.before = float(state_dict["elapsed"])
