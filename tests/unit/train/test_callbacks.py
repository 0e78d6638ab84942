"""When a state is saved and a run stops: decided on what the processes agreed on, whatever comes meanwhile."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from isograft.run import RunFolder
from isograft.train import callbacks
from isograft.train.callbacks import Checkpoint, History


@pytest.fixture()
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    run = RunFolder(tmp_path, resumed=False)
    made = Checkpoint(run, History(run))
    monkeypatch.setattr(made, "save", lambda trainer: saved.append(trainer.global_step))
    saved: list[int] = []
    made.saved = saved  # type: ignore[attr-defined]
    return made


def after(checkpoint: Checkpoint, step: int) -> Any:
    trainer = SimpleNamespace(global_step=step, should_stop=False)
    checkpoint.on_train_batch_end(trainer, None, None, None, 0)  # type: ignore[arg-type]
    return trainer


def test_a_signal_saves_the_state_and_stops(checkpoint: Checkpoint) -> None:
    checkpoint.request_stop(signal.SIGTERM)
    assert after(checkpoint, 3).should_stop and checkpoint.stopped
    assert checkpoint.saved == [3]  # type: ignore[attr-defined]


def test_a_signal_that_comes_after_the_processes_have_agreed_is_one_for_the_next_step(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def agreed(number: int) -> int:
        checkpoint.request_stop(signal.SIGTERM)  # to this process alone, while it waits for the others
        return number

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.agreement, "largest_of", agreed)
        assert not after(checkpoint, 3).should_stop
    assert not checkpoint.stopped and checkpoint.saved == []  # type: ignore[attr-defined]
    assert after(checkpoint, 4).should_stop and checkpoint.stopped
    assert checkpoint.saved == [4]  # type: ignore[attr-defined]


def test_a_stop_that_another_process_was_asked_for_is_one_for_all(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks.agreement, "largest_of", lambda number: int(signal.SIGTERM))
    assert after(checkpoint, 3).should_stop and checkpoint.stopped and checkpoint.stopped_by == signal.SIGTERM
