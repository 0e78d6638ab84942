"""What the two kinds of training step share: the batch on its device, the seed of the step, and losses that survive a resume."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn

from isograft.data.loader import Batch
from isograft.data.preprocess import Preprocess
from isograft.errors import Diverged
from isograft.plan import Plan
from isograft.ssl.gather import rank
from isograft.train.accumulation import Accumulation
from isograft.train.callbacks import History
from isograft.train.course import Course
from isograft.train.optimizer import scale_learning_rates
from isograft.train.pace import Pace
from isograft.train.schedule import seed_step, warmup_cosine
from isograft.train.statistics import freeze_batch_statistics


class TrainingModule(pl.LightningModule):
    """Base of the modules; a subclass computes the loss in `training_step` and records it in `finish_step`.

    Args:
        plan: Rates, steps, schedule.
        preprocess: Turns uint8 views into network input.
        history: Receives the figures.
        seed: Seed of what the network itself draws (dropout, stochastic depth).
        course: What changes on the way, and is kept; None keeps it in the plan alone.
    """

    def __init__(self, plan: Plan, preprocess: Preprocess, history: History, seed: int, course: Course | None = None) -> None:
        super().__init__()
        self.plan = plan
        self.pace = Pace(plan)
        self.preprocess = preprocess
        self.history = history
        self.seed = seed
        self.figures: list[dict[str, float]] = []
        self.course = course or Course(plan)
        self.accumulation = Accumulation(self)

    def backbones(self) -> Sequence[nn.Module]:
        """The network whose weights are kept, and its teacher if it has one: what may keep its batch statistics."""
        raise NotImplementedError

    def finish_step(self, figures: dict[str, float]) -> None:
        """Record the step's loss and its parts, before the state is measured or saved."""
        raise NotImplementedError

    def means(self) -> dict[str, float]:
        """Means of what was recorded since the last row of the history, which begin anew."""
        found, self.figures = self.figures, []
        return {name: float(np.mean([row[name] for row in found])) for name in found[0]}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the learning rates and the seed of this step: dropout too is a function of (seed, step). Keep frozen what the plan says."""
        if self.plan["frozen_bn"]:
            for backbone in self.backbones():
                freeze_batch_statistics(backbone)
        self.tell_changes()
        self.seed_draws()
        self.accumulation.begin(batch)
        factor = self.course.lr_scale(self.global_step)
        if self.plan["schedule"] == "cosine":
            factor *= warmup_cosine(self.global_step, self.plan["warmup"], self.pace.progress)
        scale_learning_rates(self.optimizers(use_pl_optimizer=False), factor)

    def seed_draws(self) -> None:
        """Seed what the network draws in this step."""
        seed_step(self.seed, self.global_step, rank())

    def tell_changes(self) -> None:
        """Tell the history of what changes at this step."""
        self.course.note(self.history, self.global_step, self.global_step / self.plan["steps_per_epoch"])

    def check_loss(self, loss: float) -> None:
        """Refuse a loss that is no number, before the state is measured or saved.

        Asked after the step, when a GPU has computed the loss anyway: the spoilt weights are not kept.

        Args:
            loss: That of the step just taken, over all processes.

        Raises:
            Diverged: It is none.
        """
        if not math.isfinite(loss):
            raise Diverged(f"the loss became {loss} at step {self.global_step - 1}")

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Take the step; a batch that does not fit into memory is computed again in smaller parts, from the same numbers."""
        optimizer.step(closure=lambda: self.accumulation.computed(optimizer_closure))

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip by the norm of all gradients. Lightning's own way refuses fused optimizers for the sake of fp16, which is not used here."""
        if gradient_clip_val is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move the uint8 pixels: a quarter of the bytes of float input."""
        return batch.to(device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the figures since the last row of the history."""
        checkpoint["figures"] = self.figures

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue the means that the next row of the history holds."""
        self.figures = list(checkpoint["figures"])
