"""One optimizer step of a classifier, with its rates and its record."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from isograft.data.loader import Batch
from isograft.data.preprocess import Preprocess
from isograft.networks.heads import Classifier
from isograft.plan import Plan
from isograft.ssl.gather import mean_over_ranks, world_size
from isograft.train.callbacks import History
from isograft.train.course import Course
from isograft.train.micro_batches import in_parts
from isograft.train.module import TrainingModule
from isograft.train.optimizer import build_optimizer, parameter_groups, peak_learning_rate


class FinetuneModule(TrainingModule):
    """One optimizer step of a classifier.

    Args:
        classifier: Backbone and head.
        plan: Rates, steps, schedule.
        preprocess: Turns uint8 views into network input.
        class_weights: float32 (K,) weights of the cross-entropy, or None.
        history: Receives the loss of every pass.
        seed: Seed of what the network itself draws (dropout, stochastic depth).
        course: What changes on the way, and is kept; None keeps it in the plan alone.
    """

    def __init__(
        self,
        classifier: Classifier,
        plan: Plan,
        preprocess: Preprocess,
        class_weights: Tensor | None,
        history: History,
        seed: int,
        course: Course | None = None,
    ) -> None:
        super().__init__(plan, preprocess, history, seed, course)
        self.classifier = classifier
        self.loss = nn.CrossEntropyLoss(weight=class_weights)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Head and backbone with their own rates."""
        groups = parameter_groups(
            self.classifier.backbone,
            self.classifier.head,
            lr=self.plan["lr"],
            rest_lr=self.plan["head_lr"],
            weight_decay=self.plan["weight_decay"],
            layer_decay=self.plan["layer_decay"],
        )
        return build_optimizer(groups, self.plan["optimizer"])

    def backbones(self) -> Sequence[nn.Module]:
        """The network without its head."""
        return [self.classifier.backbone]

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Cross-entropy of one batch."""
        with in_parts(self.backbones(), self.course.micro_batch(self.global_step)):
            loss = self.loss(self.classifier(self.preprocess.normalise(batch.views[0])), batch.labels) * self._share(batch.labels)
        return {"loss": loss}

    def _share(self, labels: Tensor | None) -> Tensor | float:
        """Weight of this process's images over the mean of all processes: the loss divides by its own sum where that of all counts."""
        if self.loss.weight is None or labels is None or world_size() == 1:
            return 1.0
        own = self.loss.weight[labels].sum()
        return own / mean_over_ranks(own)

    def finish_step(self, figures: dict[str, float]) -> None:
        """Record the loss of every pass, and of what is left after the last, before the state is measured or saved."""
        self.figures.append(figures)
        per_epoch = self.plan["steps_per_epoch"]
        if self.global_step % per_epoch == 0 or self.global_step == self.plan["total_steps"]:
            lr = peak_learning_rate(self.optimizers(use_pl_optimizer=False))
            self.history.add(self.global_step, self.global_step / per_epoch, "train", train_loss=self.means()["loss"], lr=lr)
