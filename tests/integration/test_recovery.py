"""A loss, weights or answers that are no numbers: back to a state of the plan at half the rates, in the same way every time."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tests.integration.faults import MODULES, STORIES, Runs, decision, diverging, rows, signalled, weights

from isograft.errors import IsograftError, RunInterrupted
from isograft.train import recovery
from isograft.train.course import Course

VERBS = ["pretrain", "finetune"]


def before(story: str, step: int) -> int:
    """The last step up to this one after which the plan has a state saved."""
    every = 2 if story == "pretrain" else 3
    return step - step % every


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("step", [1, 5])
def test_a_loss_that_is_no_number_sends_the_run_back_at_half_the_rates_and_screen_plan_and_history_say_so(
    step: int, story: str, train: Runs, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    met = diverging(monkeypatch, story, step, above=0.5)
    model = train(story, "model")
    back, networks = before(story, step), 2 if story == "folds" else 1
    assert met == [1.0, 0.5] * networks
    made = decision(model, "lr_scale_fold_2" if story == "folds" else "lr_scale")
    assert made["value"] == [[back, 0.5]]
    place = f"back to the sound state of step {back}" if back else "back to the start"
    assert made["reason"] == f"the loss became nan at step {step}: {place}, with 0.5 of the planned learning rates from there on"
    assert made["reason"] in " ".join(capfd.readouterr().err.split())
    assert [(row["step"], row["lr_scale"]) for row in rows(model, "change")] == [(str(back), "0.5")] * networks
    trained = [(row.get("fold"), row["step"]) for row in rows(model, "train")]
    assert len(trained) == len({*trained})
    assert all(np.isfinite(value).all() for value in load_file(model / "model.safetensors").values())
    assert not (model / "checkpoints").exists()


@pytest.mark.parametrize("story", VERBS)
def test_a_loss_that_stays_no_number_ends_the_run_after_two_returns_and_keeps_the_last_state(
    story: str, train: Runs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    met = diverging(monkeypatch, story, step=5, above=0.0)
    told = r"the loss became nan at step 5, after the rates were halved 2 times; the last good state is kept in --out: lower --lr"
    with pytest.raises(IsograftError, match=told):
        train(story, "model")
    assert met == [1.0, 0.5, 0.25]
    state = torch.load(tmp_path / "model" / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == before(story, 5)
    assert all(value.isfinite().all() for value in state["state_dict"].values())


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("stop", [4, 6])
def test_a_run_that_goes_back_and_is_stopped_before_or_after_ends_in_the_same_bytes(
    stop: int, story: str, train: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        diverging(patch, story, step=5, above=0.5)
        whole = train(story, "whole")
    with monkeypatch.context() as patch:
        diverging(patch, story, step=5, above=0.5)
        signalled(patch, story, stop, signal.SIGINT)
        with pytest.raises(RunInterrupted):
            train(story, "stopped")
    diverging(monkeypatch, story, step=5, above=0.5)
    stopped = train(story, "stopped", resume=True)
    assert weights(stopped) == weights(whole)
    assert rows(stopped, "change") == rows(whole, "change")


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the program runs on."""


@pytest.mark.parametrize("story", VERBS)
@pytest.mark.parametrize("step", [1, 5])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_run_that_is_killed_while_it_goes_back_ends_in_the_same_bytes(
    moment: str, step: int, story: str, train: Runs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        diverging(patch, story, step, above=0.5)
        whole = weights(train(story, "whole"))
    change = Course.change

    def kill(self: Course, *given: Any) -> None:
        if moment == "after":
            change(self, *given)
        (tmp_path / "stopped" / "keep").touch()  # a killed process does not tidy up either
        raise Killed

    with monkeypatch.context() as patch:
        diverging(patch, story, step, above=0.5)
        patch.setattr(Course, "change", kill)
        with pytest.raises(Killed):
            train(story, "stopped")
    (tmp_path / "stopped" / "keep").unlink()
    diverging(monkeypatch, story, step, above=0.5)
    assert weights(train(story, "stopped", resume=True)) == whole


def test_a_state_that_was_saved_but_not_kept_when_the_run_was_killed_is_kept_on_resume(
    train: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        diverging(patch, "finetune", step=5, above=0.5)
        whole = weights(train("finetune", "whole"))
    with monkeypatch.context() as patch:
        diverging(patch, "finetune", step=5, above=0.5)
        patch.setattr("isograft.train.callbacks.keep_sound", lambda run: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            train("finetune", "stopped")
    met = diverging(monkeypatch, "finetune", step=5, above=0.5)
    stopped = train("finetune", "stopped", resume=True)
    assert (met, decision(stopped, "lr_scale")["value"]) == ([1.0, 0.5], [[3, 0.5]])
    assert weights(stopped) == whole


def test_a_run_with_the_plan_of_one_that_went_back_ends_in_its_bytes(train: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        diverging(patch, "finetune", step=5, above=0.5)
        first = train("finetune", "first")
    assert weights(train("finetune", "again", plan=first / "run.json")) == weights(first)


@pytest.mark.parametrize("story", VERBS)
@pytest.mark.parametrize("step", [5, 8])
def test_weights_that_an_update_made_no_numbers_send_the_run_back_or_make_no_model(
    step: int, story: str, train: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = MODULES[story].finish_step
    monkeypatch.setattr(recovery, "LEAST_APART", 3)
    last = 12 if story == "pretrain" else 8

    def finish_step(self: Any, figures: dict[str, float]) -> None:
        whole(self, figures)
        if self.global_step == min(step, last) and self.course.lr_scale(step) > 0.5:
            with torch.no_grad():
                next(self.parameters()).fill_(float("nan"))

    monkeypatch.setattr(MODULES[story], "finish_step", finish_step)
    model = train(story, "model")
    assert [factor for _, factor in decision(model, "lr_scale")["value"]] == [0.5]
    assert all(np.isfinite(value).all() for value in load_file(model / "model.safetensors").values())


def test_a_signal_in_the_step_that_diverges_is_not_forgotten(train: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    met = diverging(monkeypatch, "finetune", step=5, above=0.5)
    check = MODULES["finetune"].check_loss

    def check_loss(self: Any, loss: float) -> None:
        if self.global_step - 1 == 5 and met == []:
            os.kill(os.getpid(), signal.SIGTERM)
        check(self, loss)

    monkeypatch.setattr(MODULES["finetune"], "check_loss", check_loss)
    with pytest.raises(RunInterrupted, match="stopped at step 4") as caught:
        train("finetune", "model")
    assert caught.value.exit_code == 143
