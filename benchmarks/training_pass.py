"""One training through the whole path, as the verbs take it: cache, views, loader, Lightning, history."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from isograft.data.loader import ViewLoader, ViewSpec
from isograft.plan import Plan
from isograft.run import run_folder
from isograft.train.callbacks import History
from isograft.train.engine import run_training
from isograft.train.pace import Pace
from isograft.train.schedule import ResolutionSchedule
from isograft.train.stream import BatchStream


def wait() -> None:
    """Wait for what a GPU was asked to do, so that the clock means it."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class _StepTimes(pl.Callback):
    """Notes the end of every step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        wait()
        self.ends.append(time.perf_counter())


def step_ends(
    module_of: Callable[[Plan, History], pl.LightningModule],
    decided: dict[str, Any],
    loader: ViewLoader,
    specs: Sequence[ViewSpec],
    precision: str,
    clip: float | None = None,
) -> list[float]:
    """Train, and return when each step ended, in seconds of `time.perf_counter`.

    Args:
        module_of: Makes the training module.
        decided: The plan, without reasons; `total_steps` says how long.
        loader: Gives the batches.
        specs: The views, all of one size.
        precision: `"fp32"` or `"bf16"`.
        clip: Largest gradient norm.
    """
    plan = Plan()
    for name, value in decided.items():
        plan.decide(name, value, "benchmark")
    times = _StepTimes()
    with tempfile.TemporaryDirectory() as folder, run_folder(Path(folder) / "run", {}, resume=False) as run:
        history, pace = History(run), Pace(plan)
        run_training(
            module_of(plan, history),
            lambda position: BatchStream(loader, pace, ResolutionSchedule.constant(specs[0].size), lambda _: list(specs), position),
            run,
            history,
            pace=pace,
            batch_size=loader.batch_size,
            precision=precision,
            what="Pipeline",
            callbacks=[times],
            clip=clip,
        )
    return times.ends
