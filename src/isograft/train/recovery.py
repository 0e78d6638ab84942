"""The way back when the loss or the weights are no numbers any more: to the last sound state, with half the learning rates.

States to go back to are those saved at steps of the plan, whatever the clock says, so that the same run goes back in the same way.
"""

from __future__ import annotations

import copy
import math
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from isograft.errors import Diverged
from isograft.leftovers import neighbour
from isograft.networks.files import read_torch
from isograft.run import RunFolder
from isograft.train import agreement
from isograft.train.course import LR_SCALE, Course

MOST_RETURNS = 2
LEAST_APART = 500
"""Steps between two states of a fine-tuning, at least: most are so short that the start is near enough."""


def recovery_steps(total: int) -> int:
    """Steps between two states of a fine-tuning of `total` steps that can be gone back to."""
    return max(LEAST_APART, math.ceil(total / 10))


def require_numbers(module: torch.nn.Module, step: int) -> None:
    """Refuse weights, or statistics kept beside them, that are no numbers.

    Raises:
        Diverged: Naming the first.
    """
    kept = [*module.named_parameters(), *module.named_buffers()]
    broken = next((name for name, value in kept if value.is_floating_point() and not value.isfinite().all()), None)
    if broken is not None:
        raise Diverged(f"the weights {broken} are no numbers any more at step {step}")


def keep_sound(run: RunFolder) -> None:
    """Keep the state just saved for a return to it: a second name for the same file where the file system has that, otherwise a copy."""
    state, place = run.checkpoint, sound_state(run)
    if place.exists() and place.samefile(state):
        return
    _duplicate(state, place)


def sound_state(run: RunFolder) -> Path:
    """Where the last state is kept that was saved at a step of the plan."""
    return run.checkpoint.with_name("sound.ckpt")


def _duplicate(source: Path, target: Path) -> None:
    """Give a file a second name, whole or not at all.

    Raises:
        OSError: There is no room for it.
    """
    temporary = neighbour(target)
    try:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


class Recovery:
    """Puts a training back to its last sound state, or to its start.

    Args:
        run: The output folder.
        module: What is trained, as it is before any step.
        callbacks: What keeps something of its own through a run.
        course: Receives the lower rates.
    """

    def __init__(self, run: RunFolder, module: pl.LightningModule, callbacks: Sequence[pl.Callback], course: Course) -> None:
        self.run, self.module, self.callbacks, self.course = run, module, callbacks, course
        self._weights = {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
        further: dict[str, Any] = {}
        module.on_save_checkpoint(further)
        self._further = copy.deepcopy(further)
        self._states = [copy.deepcopy(callback.state_dict()) for callback in callbacks]

    def back(self, problem: str, at: int) -> None:
        """Put everything back, and halve the rates from there on: those at the step `at`, which went wrong.

        The state goes first: a run that is killed in between meets the same problem again, and comes here again.

        Raises:
            Diverged: That was done twice already.
        """
        rate = f"lower --lr (now {self.course.plan['lr']:.2g})"
        if self.course.returns >= MOST_RETURNS:
            raise Diverged(f"{problem}, after the rates were halved {MOST_RETURNS} times; the last good state is kept in --out: {rate}")
        step = agreement.on_first(self._choose)
        if step == 0:
            self._to_start()
        scale = 0.5 * self.course.lr_scale(at)
        place = f"back to the sound state of step {step}" if step else "back to the start"
        self.course.change(LR_SCALE, step, scale, f"{problem}: {place}, with {scale:g} of the planned learning rates from there on")

    def _choose(self) -> int:
        """Make the last sound state the one that is resumed, and return its step; 0 where there is none."""
        sound = sound_state(self.run)
        if sound.is_file():
            _duplicate(sound, self.run.checkpoint)
            return int(read_torch(sound, "start a new --out")["global_step"])
        with suppress(FileNotFoundError):
            self.run.checkpoint.unlink()
        return 0

    def _to_start(self) -> None:
        self.module.load_state_dict(self._weights)
        self.module.on_load_checkpoint(copy.deepcopy(self._further))
        for callback, state in zip(self.callbacks, self._states, strict=True):
            if state:
                callback.load_state_dict(copy.deepcopy(state))
