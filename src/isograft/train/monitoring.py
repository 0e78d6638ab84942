"""Watches the embedding while a network is pretrained: spread, rank, and what a nearest-neighbour probe can read from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from isograft import console
from isograft.data.duplicates import bound_groups
from isograft.data.manifest import Manifest
from isograft.data.preprocess import Preprocess
from isograft.data.splits import hold_out, keyed_rank
from isograft.errors import Diverged, IsograftError
from isograft.plan import Plan
from isograft.ssl.monitor import collapsed, effective_rank, embedding_std, knn_probe
from isograft.train import agreement
from isograft.train.callbacks import History
from isograft.train.micro_batches import as_many_as_fit
from isograft.train.sharding import whole

SAMPLE = 1000
BATCH = 128


class EmbeddingMonitor(pl.Callback):
    """Now and then: embed up to 1,000 pool images with frozen weights and measure.

    A collapsed embedding stops the run before the next checkpoint is taken, so the last good state is kept.
    """

    def __init__(
        self, images: Sequence[npt.NDArray[np.uint8]], preprocess: Preprocess, manifest: Manifest, history: History, plan: Plan, seed: int
    ) -> None:
        self.images = images
        self.preprocess = preprocess
        self.history = history
        self.plan = plan
        self.every = int(plan["monitor_every"])
        self.latest: dict[str, float] = {}
        ids = [str(key) for key in manifest.frame["id"]]
        self.rows = np.argsort(keyed_rank(ids, seed, "monitor"))[:SAMPLE]
        self.probe = _probe_split(manifest.take(self.rows), seed)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Measure after every so many steps."""
        if trainer.global_step % self.every or trainer.global_step == self.plan["total_steps"]:
            return  # the end is measured by `remeasure`
        with whole(trainer):
            network, step = pl_module.method.export_backbone(), trainer.global_step
            agreement.on_first(lambda: self.measure(embed(network, self.images, self.rows, self.preprocess, pl_module.device), step))

    def remeasure(self, network: nn.Module) -> None:
        """Measure the network that is kept, whose batch statistics have changed since the last step."""
        embedding = embed(network, self.images, self.rows, self.preprocess, next(network.parameters()).device)
        self.measure(embedding, self.plan["total_steps"])

    def measure(self, embedding: Tensor, step: int) -> None:
        """Record the state of an embedding, float32 (N, D), and stop the run when it has collapsed."""
        if not embedding.isfinite().all():
            raise Diverged(f"the embedding holds values that are no numbers at step {step}")
        std, rank = embedding_std(embedding), effective_rank(embedding)
        figures = {"embedding_std": std, "effective_rank": rank}
        if self.probe is not None:
            known, asked, classes = self.probe
            figures["knn_macro_f1"] = knn_probe(embedding[known], classes[known], embedding[asked], classes[asked]).macro_f1
        epoch = step / self.plan["steps_per_epoch"]
        self.latest = figures
        self.history.add(step, epoch, "monitor", **figures)
        console.say(f"epoch {epoch:.1f}: " + ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in figures.items()))
        reason = collapsed(std, rank, embedding.shape[1])
        if reason is not None:
            raise IsograftError(
                f"pretraining collapsed at step {step}: {reason}; the last good state is kept: "
                "lower --lr, raise --batch-size or choose another --method"
            )

    def state_dict(self) -> dict[str, Any]:
        """The latest figures."""
        return {"latest": self.latest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the figures of the checkpoint."""
        self.latest = dict(state_dict["latest"])


def _probe_split(sample: Manifest, seed: int) -> tuple[Tensor, Tensor, Tensor] | None:
    """Split the labeled rows of the sample by group for the nearest-neighbour probe.

    Returns:
        Reference rows, probed rows (int64) and class numbers of the whole sample (-1 where unlabeled), or None when either side
        lacks a second class.
    """
    labels = sample.labels()
    labeled = np.array([label is not None for label in labels])
    if len({label for label in labels if label is not None}) < 2:
        return None
    groups = bound_groups(sample)
    held = np.zeros(len(sample), dtype=bool)
    held[labeled] = hold_out(labels[labeled], groups[labeled], 0.5, seed, "monitor")
    known, asked = np.flatnonzero(labeled & ~held), np.flatnonzero(held)
    if min(len(set(labels[known])), len(set(labels[asked]))) < 2:
        return None
    classes = np.full(len(sample), -1, dtype=np.int64)
    classes[labeled] = np.unique(labels[labeled].astype(str), return_inverse=True)[1]
    return torch.from_numpy(known), torch.from_numpy(asked), torch.from_numpy(classes)


@torch.no_grad()
def embed(
    network: nn.Module, images: Sequence[npt.NDArray[np.uint8]], rows: npt.NDArray[np.int64], preprocess: Preprocess, device: torch.device
) -> Tensor:
    """Embed images as inference would see them.

    Args:
        network: Maps float (B, 3, S, S) to (B, D); its train/eval mode is restored, and it goes back to the device where it was.
        images: Working-size images.
        rows: Which of them.
        preprocess: The one preprocessing.
        device: Where to compute.

    Returns:
        float32 (N, D) on the CPU.
    """
    training = [module for module in network.modules() if module.training]
    home = next(network.parameters()).device
    network.to(device)
    network.eval()

    def all_of_them(batch: int) -> Tensor:
        parts = []
        for begin in range(0, len(rows), batch):
            pixels = np.stack([preprocess.fit(images[int(row)]) for row in rows[begin : begin + batch]])
            parts.append(network(preprocess.normalise(torch.from_numpy(pixels).to(device))).float().cpu())
        return torch.cat(parts)

    try:
        return as_many_as_fit(all_of_them, BATCH)
    finally:
        network.to(home)
        for module in training:
            module.training = True
