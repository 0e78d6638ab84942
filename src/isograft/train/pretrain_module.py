"""One optimizer step of a pretraining method, with its rates and its record."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from isograft.data.loader import Batch
from isograft.data.preprocess import Preprocess
from isograft.plan import Plan
from isograft.ssl.method import Method
from isograft.train.callbacks import History
from isograft.train.course import Course
from isograft.train.micro_batches import in_parts
from isograft.train.module import TrainingModule
from isograft.train.optimizer import build_optimizer, parameter_groups, peak_learning_rate


class PretrainModule(TrainingModule):
    """One optimizer step of a pretraining method.

    Args:
        method: The method with its backbone.
        plan: Rates, steps and warm-up.
        preprocess: Turns uint8 views into network input.
        history: Receives loss, rate and learning rate a hundred times per run, as it is planned at first.
        seed: Seed of what the network itself draws (dropout, stochastic depth).
        course: What changes on the way, and is kept; None keeps it in the plan alone.
    """

    def __init__(
        self, method: Method, plan: Plan, preprocess: Preprocess, history: History, seed: int, course: Course | None = None
    ) -> None:
        super().__init__(plan, preprocess, history, seed, course)
        self.method = method
        self._began = time.monotonic()

    def backbones(self) -> Sequence[torch.nn.Module]:
        """The network without its projector, and its teacher."""
        return self.method.backbones()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; the backbone layer by layer, everything new at its own rate."""
        beside = torch.nn.ModuleDict({name: child for name, child in self.method.named_children() if name != "backbone"})
        groups = parameter_groups(
            self.method.backbone,
            beside,
            lr=self.plan["lr"],
            rest_lr=self.plan["new_layer_lr"],
            weight_decay=self.plan["weight_decay"],
            layer_decay=self.plan["layer_decay"],
        )
        return build_optimizer(groups, "adamw")

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, torch.Tensor]:
        """Compute the loss of one batch of uint8 views."""
        views = [self.preprocess.normalise(view) for view in batch.views]
        with in_parts(self.method.by_image(), self.course.micro_batch(self.global_step)):
            output = self.method(views, batch.labels)
        return {"loss": output.loss, **output.terms}

    def finish_step(self, figures: dict[str, float]) -> None:
        """Update teachers and the history, before the state is measured or saved."""
        step = self.global_step
        self.method.after_step(self.pace.progress(step))
        self.figures.append(figures)
        if step % self.plan["history_every"] == 0 or step == self.pace.total:
            now = time.monotonic()
            rate = len(self.figures) * self.plan["batch_size"] / max(now - self._began, 1e-9)
            lr = peak_learning_rate(self.optimizers(use_pl_optimizer=False))
            self.history.add(step, step / self.plan["steps_per_epoch"], "train", **self.means(), lr=lr, images_per_second=rate)
            self._began = now
