"""Runs a training module over a stream of batches with Lightning, so that it can be stopped and resumed at any step."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from isograft.errors import Diverged, IsograftError, RunInterrupted, Terminated
from isograft.networks.files import read_torch
from isograft.networks.sync_norm import synchronised
from isograft.run import RunFolder
from isograft.train import agreement, ranks
from isograft.train.ahead import AheadOnDevice
from isograft.train.callbacks import Checkpoint, History, ProgressBar, StepEnd
from isograft.train.memory_notes import take_note
from isograft.train.pace import Pace
from isograft.train.recovery import Recovery
from isograft.train.signals import Signals, signals_restored
from isograft.train.stream import BatchStream


def training_device() -> torch.device:
    """The device training runs on: the GPU of this process, the first when it is alone, otherwise the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # same bytes again; read once, by the first matrix product
    return torch.device("cuda", ranks.local_rank())


def run_training(
    module: pl.LightningModule,
    stream_of: Callable[[Callable[[], int]], BatchStream],
    run: RunFolder,
    history: History,
    *,
    pace: Pace,
    batch_size: int,
    precision: str,
    what: str,
    callbacks: Sequence[pl.Callback] = (),
    clip: float | None = None,
    save_every: int | None = None,
    sharded: bool = False,
) -> None:
    """Train to the end of the stream, from the checkpoint of `run` when it is resumed.

    A loss that is no number sends the run back to its last sound state at a lower rate; a batch that does not fit into memory is
    computed in parts. The plan says so (see `isograft.train.course`).

    The run is one Lightning epoch of at most `pace.most` batches: an epoch over the images is a property of the stream, so there is
    a single kind of resume, in the middle.

    Args:
        module: Computes the loss and owns the optimizer.
        stream_of: Makes the `BatchStream` from a function that returns the current step.
        run: The output folder.
        history: Where figures are kept.
        pace: Steps of the whole run.
        batch_size: Images per step, for the rate shown.
        precision: `"fp32"` or `"bf16"`.
        what: Title of the progress bar.
        callbacks: Further callbacks, called before the checkpoint is taken.
        clip: Largest gradient norm.
        save_every: Also save the state after so many steps, once the callbacks have found it sound; the run can go back to it.
        sharded: Whether each of several processes holds a part of the network only.

    Raises:
        RunInterrupted: The user pressed Ctrl-C, or a job scheduler sent SIGTERM; the state was saved.
        Diverged: The loss is no number, at lower rates too.
    """
    checkpoint = Checkpoint(run, history, save_every)
    kept = [Signals(checkpoint), StepEnd(), history, *callbacks]
    take_note(module.course)
    recovery = Recovery(run, module, kept, module.course)
    resumed = run.resumed
    with _quiet_lightning(), signals_restored(), _determinism_restored(), synchronised(module, training_device()):
        while True:
            trainer = _trainer([*kept, ProgressBar(pace, batch_size, what), checkpoint], precision, clip, run.path, sharded)
            exists = agreement.on_first(run.checkpoint.exists)
            problem = _fit(trainer, module, stream_of, run.checkpoint if resumed and exists else None)
            if problem is None:
                break
            recovery.back(problem, trainer.global_step)
            resumed = True
    history.write()
    if checkpoint.stopped:
        told = f"stopped at step {trainer.global_step} of {pace.total}; the state is in {run.path}: add --resume to continue"
        raise RunInterrupted(told) from (Terminated() if checkpoint.stopped_by == signal.SIGTERM else None)


def _fit(
    trainer: pl.Trainer, module: pl.LightningModule, stream_of: Callable[[Callable[[], int]], BatchStream], state: Path | None
) -> str | None:
    """Take all steps from a saved state, or from the start; return what became no number on the way, if anything."""
    stream = stream_of(lambda: int(trainer.global_step))
    batches = AheadOnDevice(stream, training_device()) if training_device().type == "cuda" else stream
    try:
        trainer.fit(module, train_dataloaders=batches, ckpt_path=state, weights_only=True)
    except SystemExit as stop:  # how Lightning ends at a second Ctrl-C
        raise KeyboardInterrupt from stop
    except Diverged as error:
        return str(error)
    return None


def _trainer(callbacks: Sequence[pl.Callback], precision: str, clip: float | None, folder: Path, sharded: bool) -> pl.Trainer:
    """A Lightning trainer that does nothing but the steps: saving, figures, signals and the screen are ours.

    Left to itself, Lightning would look for states called `hpc_ckpt` in the working directory of a SLURM job, and at SIGUSR1 write one
    there and queue the job again.
    """
    on_gpu = training_device().type == "cuda"
    return pl.Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        **ranks.lightning_options(sharded),
        deterministic="warn" if on_gpu else None,  # same bytes again; an operation that cannot is named in a warning
        benchmark=False,  # a measured choice of kernels may differ from run to run
        precision="bf16-mixed" if precision == "bf16" else "32-true",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        gradient_clip_val=clip,
        callbacks=list(callbacks),
        default_root_dir=folder,
        plugins=[StraightToDisk(), *ranks.lightning_plugins()],
    )


class StraightToDisk(TorchCheckpointIO):
    """Writes a state to its file directly: Lightning's own way first makes two copies of it in memory.

    The callback that saves is the one that makes it atomic.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write the state to a local path."""
        torch.save(checkpoint, path)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a state; nothing in it is run, whatever lies at the path.

        Raises:
            IsograftError: It is damaged, or no state of a training.
        """
        remedy = "copy the folder again from where the run was broken off, or start a new --out"
        state = read_torch(Path(path), remedy)
        if not isinstance(state, dict) or "pytorch-lightning_version" not in state:
            raise IsograftError(f"{path} is no saved state of a training; {remedy}")
        return state


@contextmanager
def _determinism_restored() -> Iterator[None]:
    """Put back at the end whether torch takes kernels that repeat themselves; meanwhile new memory is left as it is, and not filled."""
    asked, gently = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(asked, warn_only=gently)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advice and advertisements off the screen."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "pytorch_lightning.utilities.rank_zero", "lightning.pytorch")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"pytorch_lightning.*")
        told = "num_workers|resuming from a checkpoint|does not have many workers|find_unused_parameters"
        warnings.filterwarnings("ignore", message=rf".*({told}).*")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
