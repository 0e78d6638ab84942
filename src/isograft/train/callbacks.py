"""What happens around the steps: saving, history, progress and a clean stop."""

from __future__ import annotations

import csv
import io
import time
from typing import Any

import pytorch_lightning as pl

from isograft import console
from isograft.errors import IsograftError
from isograft.leftovers import neighbour
from isograft.run import RunFolder, sync, write_atomic
from isograft.train import agreement
from isograft.train.pace import Pace
from isograft.train.recovery import keep_sound, require_numbers
from isograft.train.sharding import whole


class History(pl.Callback):
    """The run's figures by step, kept in the checkpoint and written as history.csv.

    Rows are dictionaries with `step`, `epoch` and `phase`; columns grow as needed.
    """

    def __init__(self, run: RunFolder) -> None:
        self.path, self.leads = run.path / "history.csv", run.leads
        self.rows: list[dict[str, Any]] = []

    def add(self, step: int, epoch: float, phase: str, **figures: float) -> None:
        """Add a row."""
        self.rows.append({"step": step, "epoch": round(epoch, 3), "phase": phase, **{k: float(f"{v:.6g}") for k, v in figures.items()}})

    def write(self) -> None:
        """Write history.csv whole."""
        if not self.leads:
            return
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, fieldnames=columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomic(self.path, buffer.getvalue())

    def state_dict(self) -> dict[str, Any]:
        """The rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from the rows of the checkpoint; later ones are forgotten with the steps that made them."""
        self.rows = list(state_dict["rows"])


class StepEnd(pl.Callback):
    """Lets the module finish its step first: Lightning would call callbacks, and so save the state, before the module's own hook."""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Finish the step, of all processes."""
        figures = agreement.mean_of({name: float(value) for name, value in outputs.items()})
        pl_module.check_loss(figures["loss"])
        pl_module.finish_step(figures)


class Checkpoint(pl.Callback):
    """Save the whole state every few minutes, every so many steps if asked, and when the user interrupts.

    The file is written beside the old one and renamed over it, so that a crash or a full disk leaves the last good state.
    """

    def __init__(self, run: RunFolder, history: History, every_steps: int | None = None, minutes: float = 5.0) -> None:
        self.run = run
        self.history = history
        self.every_steps = every_steps
        self.seconds = minutes * 60
        self.stop_requested = self.save_requested = self.stopped = False
        self.stopped_by = 0
        self.saved_at = time.monotonic()

    def request_stop(self, number: int) -> None:
        """Save after the current step and stop, as a signal of this number asks for it."""
        self.stop_requested, self.stopped_by = True, self.stopped_by or number

    def is_due(self, step: int) -> bool:
        """Whether the plan has a state saved after so many steps: one that can be gone back to."""
        return self.every_steps is not None and step > 0 and step % self.every_steps == 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count the interval from here; a run that was killed right after it had saved a state has not kept it yet."""
        self.saved_at = time.monotonic()
        if self.is_due(trainer.global_step):
            agreement.on_first(lambda: self.keep() if self.run.checkpoint.exists() else None)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save when it is time. A signal that comes after the processes have agreed is one for the next step."""
        due = self.is_due(trainer.global_step)
        asked = self.save_requested or time.monotonic() - self.saved_at > self.seconds
        wanted = agreement.largest_of(self.stopped_by if self.stop_requested else int(asked))  # a signal's number, or 1 to save
        if wanted > 1:
            self.request_stop(wanted)
        if due or wanted:
            self.save_requested = False
            self.save(trainer)
        if due:
            agreement.on_first(self.keep)
        if wanted > 1:
            self.stopped = trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """No run ends with weights that are not numbers."""
        with whole(trainer):
            agreement.on_first(lambda: require_numbers(trainer.lightning_module, trainer.global_step))

    def save(self, trainer: pl.Trainer) -> None:
        """Gather the state from all processes and let the first write it; weights that are not numbers never replace a good state."""
        with whole(trainer):
            state = trainer._checkpoint_connector.dump_checkpoint()  # trainer.save_checkpoint would write in all of them
            agreement.on_first(lambda: self._write(trainer, state))
        self.saved_at = time.monotonic()

    def _write(self, trainer: pl.Trainer, state: dict[str, Any]) -> None:
        """Write last.ckpt atomically, and history.csv beside it."""
        require_numbers(trainer.lightning_module, trainer.global_step)
        target = self.run.checkpoint
        temporary = neighbour(target)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            trainer.strategy.save_checkpoint(state, temporary)
            sync(temporary)
            temporary.replace(target)
        except (OSError, RuntimeError) as error:
            kept = "the last good state is kept" if target.exists() else "no state was saved yet"
            raise IsograftError(
                f"cannot save the state to {target}: {error}; {kept}: free some space and continue with --resume"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
        self.history.write()

    def keep(self) -> None:
        """Keep the state of a step of the plan, so that the run can go back to it."""
        try:
            keep_sound(self.run)
        except OSError as error:
            raise IsograftError(
                f"cannot keep the state {self.run.checkpoint} a second time: {error}; free some space and continue with --resume"
            ) from error


class ProgressBar(pl.Callback):
    """Rate, time left and loss while training."""

    def __init__(self, pace: Pace, batch_size: int, what: str) -> None:
        self.pace = pace
        self.batch_size = batch_size
        self.begun_at = 0
        self.progress = console.Progress(pace.total * batch_size, what)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar at the steps that are left."""
        self.begun_at = trainer.global_step
        self._size()
        self.progress.__enter__()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Advance; the end may have moved."""
        self._size()
        self.progress.advance(self.batch_size, loss=float(outputs["loss"]))

    def _size(self) -> None:
        self.progress.total = (self.pace.total - self.begun_at) * self.batch_size

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bar."""
        self.progress.__exit__(None, None, None)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Close the bar when the run breaks off."""
        self.progress.__exit__(type(exception), exception, None)
