"""Which weights of a fine-tuning run are kept: the best on the validation split, or the last when there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from isograft.data.preprocess import Preprocess
from isograft.errors import Diverged
from isograft.networks.heads import Classifier
from isograft.plan import Plan
from isograft.train import agreement
from isograft.train.callbacks import History
from isograft.train.monitoring import embed
from isograft.train.validation import Validation

PATIENCE_SHARE = 0.34


class BestOnValidation(pl.Callback):
    """Scores the validation split before the first step, after every pass and at the end, and keeps the best weights.

    The head's first solution (the linear probe) is a candidate too, so validated fine-tuning never ends below it. Training
    stops when a third of the passes brought nothing better.
    """

    def __init__(self, validation: Validation | None, preprocess: Preprocess, plan: Plan, history: History) -> None:
        self.validation = validation if plan["strategy"] != "paper" else None
        self.preprocess = preprocess
        self.plan = plan
        self.history = history
        self.per_epoch = int(plan["steps_per_epoch"])
        self.best: dict[str, Any] = {}
        self.weights: dict[str, Tensor] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Score the starting point; a run that was stopped when it had waited long enough ends at once."""
        if trainer.global_step == 0:
            self._score(trainer, pl_module)
        elif self.validation is not None and self._waited_long(trainer.global_step):
            trainer.should_stop = True

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Score after every pass, and stop when nothing better has come for long."""
        step = trainer.global_step
        if self.validation is None or (step % self.per_epoch and step != self.plan["total_steps"]):
            return
        self._score(trainer, pl_module)
        if self._waited_long(trainer.global_step):
            trainer.should_stop = True

    def _waited_long(self, step: int) -> bool:
        waited = (step - step % self.per_epoch - self.best["step"]) / self.per_epoch
        return bool(waited > max(5, PATIENCE_SHARE * self.plan["total_steps"] / self.per_epoch))

    def _score(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self.validation is None:
            return
        figures = agreement.on_first(lambda: self._figures(pl_module, trainer.global_step))
        self.history.add(trainer.global_step, trainer.global_step / self.per_epoch, "val", **figures)
        if not self.best or (figures["val_macro_f1"], -figures["val_loss"]) > (self.best["val_macro_f1"], -self.best["val_loss"]):
            self.best = {"step": trainer.global_step, **figures}
            self.weights = {name: tensor.detach().cpu().clone() for name, tensor in pl_module.classifier.state_dict().items()}

    def _figures(self, pl_module: Any, step: int) -> dict[str, float]:
        """Figures of the validation images by the network as it is."""
        assert self.validation is not None  # noqa: S101  (asked by the caller)
        classifier: Classifier = pl_module.classifier
        embedding = embed(classifier.backbone, self.validation.images, self.validation.rows, self.preprocess, pl_module.device)
        with torch.no_grad():
            logits = classifier.head.eval()(embedding.to(pl_module.device)).float().cpu()
            classifier.head.train()
        if not logits.isfinite().all():
            raise Diverged(f"the answers to the validation images are no numbers at step {step}")
        return validation_figures(logits, torch.from_numpy(self.validation.targets))

    def restore(self, classifier: Classifier) -> dict[str, float]:
        """Put the kept weights into the classifier and return their validation figures."""
        if self.weights:
            classifier.load_state_dict(self.weights)
        return {name: float(value) for name, value in self.best.items()}

    def state_dict(self) -> dict[str, Any]:
        """The best so far."""
        return {"best": self.best, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from the best of the checkpoint."""
        self.best, self.weights = dict(state_dict["best"]), dict(state_dict["weights"])


def validation_figures(logits: Tensor, targets: Tensor) -> dict[str, float]:
    """Return class-balanced cross-entropy, macro-F1 and balanced accuracy.

    Args:
        logits: float32 (N, K).
        targets: int64 (N,).
    """
    from sklearn.metrics import balanced_accuracy_score, f1_score

    counts = torch.bincount(targets, minlength=logits.shape[1]).clamp(min=1)
    loss = torch.nn.functional.cross_entropy(logits, targets, weight=len(targets) / (logits.shape[1] * counts).float())
    predicted = logits.argmax(dim=1).numpy()
    present = np.unique(targets.numpy())
    return {
        "val_loss": float(loss),
        "val_macro_f1": float(f1_score(targets.numpy(), predicted, labels=present, average="macro", zero_division=0)),
        "val_balanced_accuracy": float(balanced_accuracy_score(targets.numpy(), predicted)),
    }
