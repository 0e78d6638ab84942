"""Ctrl-C and --resume: the state is saved, and the resumed run ends in the bytes of one that was never stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import isograft
from isograft.errors import IsograftError, RunInterrupted
from isograft.train.finetune_module import FinetuneModule
from isograft.train.pretrain_module import PretrainModule

SMALL: dict[str, Any] = {"backbone": "test_resnet", "image_size": 32, "threads": 1, "precision": "fp32"}
PRETRAIN: dict[str, Any] = {**SMALL, "epochs": 4, "batch_size": 16}
RUNS = [
    ("pretrain", {**PRETRAIN, "method": "simclr"}),
    ("pretrain", {**PRETRAIN, "method": "byol"}),
    ("pretrain", {**PRETRAIN, "method": "dino"}),
    ("finetune", {**SMALL, "init": "scratch", "epochs": 12, "val_fraction": 0.3}),
    ("finetune", {**SMALL, "init": "scratch", "epochs": 12, "strategy": "paper", "batch_size": 16, "backbone": "alzubaidi_light"}),
]


@pytest.mark.parametrize(
    ("verb", "options"), RUNS, ids=lambda given: given if isinstance(given, str) else given.get("method", given.get("strategy"))
)
def test_an_interrupted_run_resumes_to_the_bytes_of_an_uninterrupted_one(
    verb: str, options: dict[str, Any], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = getattr(isograft, verb)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    given = {**options, "cache_dir": tmp_path / "cache"}
    run(images, out=whole, **given)
    for module in (PretrainModule, FinetuneModule):
        monkeypatch.setattr(module, "training_step", _press_ctrl_c(module.training_step, at_step=4))
    with pytest.raises(RunInterrupted, match=r"stopped at step 5 of .*--resume"):
        run(images, out=stopped, **given)
    monkeypatch.undo()
    assert not (stopped / "model.json").exists()
    run(images, out=stopped, resume=True, **given)
    assert (stopped / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def _on(monkeypatch: pytest.MonkeyPatch, capability: str) -> None:
    """Be a CPU of this kind to whoever decides by it."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)


def _stop_at_step_five(verb: str, images: Path, monkeypatch: pytest.MonkeyPatch, **given: Any) -> None:
    with monkeypatch.context() as patch:
        for module in (PretrainModule, FinetuneModule):
            patch.setattr(module, "training_step", _press_ctrl_c(module.training_step, at_step=4))
        with pytest.raises(RunInterrupted):
            getattr(isograft, verb)(images, **given)


@pytest.mark.parametrize(("verb", "options"), [RUNS[0], RUNS[-1]], ids=["pretrain", "finetune"])
def test_a_run_by_matrix_products_resumes_to_the_same_bytes_on_a_machine_that_would_begin_otherwise_on_any_loader_threads(
    verb: str, options: dict[str, Any], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, given = getattr(isograft, verb), {**options, "cache_dir": tmp_path / "cache"}
    _on(monkeypatch, "AVX2")
    run(images, out=tmp_path / "whole", **{**given, "threads": 4})
    _stop_at_step_five(verb, images, monkeypatch, out=tmp_path / "stopped", **{**given, "threads": 2})
    _on(monkeypatch, "DEFAULT")
    run(images, out=tmp_path / "stopped", resume=True, **{**given, "threads": 2})
    run(images, out=tmp_path / "library", **given)
    whole, stopped, library = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "stopped", "library"))
    assert stopped == whole != library


@pytest.mark.parametrize(("verb", "options"), [RUNS[0], RUNS[-1]], ids=["pretrain", "finetune"])
def test_a_run_that_an_earlier_version_began_goes_on_by_the_library(
    verb: str, options: dict[str, Any], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, given = getattr(isograft, verb), {**options, "cache_dir": tmp_path / "cache"}
    _on(monkeypatch, "DEFAULT")
    run(images, out=tmp_path / "whole", **given)
    _stop_at_step_five(verb, images, monkeypatch, out=tmp_path / "stopped", **given)
    record = tmp_path / "stopped" / "run.json"
    began = json.loads(record.read_text())
    began["plan"] = [entry for entry in began["plan"] if entry["name"] not in {"convolutions", "views_on"}]
    record.write_text(json.dumps(began))
    _on(monkeypatch, "AVX2")
    run(images, out=tmp_path / "stopped", resume=True, **given)
    assert (tmp_path / "stopped" / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()


def _press_ctrl_c(step: Any, at_step: int) -> Any:
    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        if self.global_step == at_step:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, batch_idx)

    return training_step


def test_a_run_whose_images_changed_cannot_be_resumed(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = tmp_path / "pool.parquet"
    isograft.ingest(images / "a", out=pool)
    given = {**PRETRAIN, "cache_dir": tmp_path / "cache"}
    monkeypatch.setattr(PretrainModule, "training_step", _press_ctrl_c(PretrainModule.training_step, at_step=1))
    with pytest.raises(RunInterrupted):
        isograft.pretrain(pool, out=tmp_path / "run", **given)
    monkeypatch.undo()
    isograft.ingest(images / "b", out=pool)
    with pytest.raises(IsograftError, match="the data changed since the run"):
        isograft.pretrain(pool, out=tmp_path / "run", resume=True, **given)


def test_a_run_whose_plan_file_sets_its_steps_resumes(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text('{"total_steps": 6}')
    given = {**PRETRAIN, "epochs": "auto", "plan": plan, "cache_dir": tmp_path / "cache"}
    isograft.pretrain(images, out=tmp_path / "whole", **given)
    monkeypatch.setattr(PretrainModule, "training_step", _press_ctrl_c(PretrainModule.training_step, at_step=2))
    with pytest.raises(RunInterrupted, match="stopped at step 3 of 6"):
        isograft.pretrain(images, out=tmp_path / "stopped", **given)
    monkeypatch.undo()
    isograft.pretrain(images, out=tmp_path / "stopped", resume=True, **given)
    assert (tmp_path / "stopped" / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.proof),)


def test_a_saved_state_that_would_run_code_is_refused_and_runs_nothing(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, proof = tmp_path / "run", tmp_path / "it ran"
    given = {**PRETRAIN, "cache_dir": tmp_path / "cache", "out": out}
    monkeypatch.setattr(PretrainModule, "training_step", _press_ctrl_c(PretrainModule.training_step, at_step=1))
    with pytest.raises(RunInterrupted):
        isograft.pretrain(images, **given)
    monkeypatch.undo()
    state = out / "checkpoints" / "last.ckpt"
    sound = torch.load(state, weights_only=True)
    torch.save({**sound, "callbacks": Payload(proof)}, state)
    with pytest.raises(IsograftError, match=r"last\.ckpt is damaged or holds objects other than tensors.*start a new --out"):
        isograft.pretrain(images, resume=True, **given)
    assert not proof.exists()
    torch.load(state, weights_only=False)
    assert proof.exists(), "the payload of this test does not work"
    torch.save(sound, state)
    assert isograft.pretrain(images, resume=True, **given).passport.kind == "backbone"


def test_ctrl_c_at_the_command_line_exits_with_130_and_says_how_to_go_on(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ["--backbone", "test_resnet", "--image-size", "32", "--epochs", "4000", "--batch-size", "16", "--threads", "1"]
    words = [sys.executable, "-m", "isograft", "pretrain", str(images), "--out", str(out), "--cache-dir", str(tmp_path), *options]
    with (tmp_path / "stderr").open("w+") as said:
        process = subprocess.Popen(words, stderr=said)
        patience = time.monotonic() + 240
        while not (out / "run.json").exists() or "plan" not in (out / "run.json").read_text():
            assert process.poll() is None
            assert time.monotonic() < patience
            time.sleep(0.1)
        time.sleep(5)
        process.send_signal(signal.SIGINT)
        code = process.wait(timeout=240)
        said.seek(0)
        text = said.read()
    assert code == 130, text
    assert "--resume" in text
    shown = subprocess.run([sys.executable, "-m", "isograft", "show", str(out)], capture_output=True, text=True)
    assert shown.returncode == 2
    assert "--resume" in shown.stderr
