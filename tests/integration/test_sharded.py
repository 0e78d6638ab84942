"""One pretraining whose network lies in parts in two processes: the figures and files of one, and states that either takes up."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import isograft
from isograft.errors import RunInterrupted
from isograft.train.pretrain_module import PretrainModule

SMALL: dict[str, Any] = {"backbone": "test_vit", "image_size": 32, "threads": 1, "precision": "fp32", "batch_size": 8}
JOBS: dict[str, dict[str, Any]] = {"mae": {**SMALL, "epochs": 4, "method": "mae"}, "dino": {**SMALL, "epochs": 2, "method": "dino"}}

# What torchrun starts in two processes, twice. At first all trains undisturbed; then a pretraining goes back from a loss that is no number
# in the second process; another is ended by a SIGTERM to the second, goes on, and dies there. The second time, that goes on, and so does
# one that was begun by one process.
ENTRY = """
import json, os, shutil, signal, sys
from pathlib import Path
import isograft
from isograft.cli import report
from isograft.errors import IsograftError
from isograft.train.pretrain_module import PretrainModule

home, jobs = Path(sys.argv[1]), json.loads(sys.argv[2])
rank, attempt = int(os.environ["RANK"]), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
log, at = {}, {}
undisturbed = PretrainModule.training_step

def training_step(self, batch, number):
    event, who = at.get(self.global_step, (None, -1))
    if who == rank and event != "nan":
        os.kill(os.getpid(), getattr(signal, event))
    moments = [one["exp_avg"] for one in self.optimizers(use_pl_optimizer=False).state.values()]
    held = [*self.parameters(), *moments]
    log["held"] = sum(one.to_local().numel() for one in held) / sum(one.numel() for one in held)
    output = undisturbed(self, batch, number)
    if (event, who) == ("nan", rank):
        at.clear()
        output = {name: value * float("nan") for name, value in output.items()}
    return output

PretrainModule.training_step = training_step

def run(name, job="mae", plan="plan.json", told=None, **more):
    try:
        isograft.pretrain(home / "images", out=home / name, cache_dir=home / "cache", plan=home / plan, **{**jobs[job], **more})
        log[told or name] = "done"
    except IsograftError as error:
        log[told or name] = [type(error).__name__, report(error)]
    (home / f"log-{attempt}-{rank}.json").write_text(json.dumps(log))

if attempt == 0:
    run("normed", method="simclr")
    for name in jobs:
        run(name, name)
    run("in-parts", plan="in-parts.json", max_time="300s")
    at = {5: ("nan", 1)}
    run("recovered")
    at = {3: ("SIGTERM", 1), 7: ("SIGKILL", 1)}
    run("broken", told="stopped")
    if rank == 0:
        shutil.copytree(home / "broken", home / "alone" / "resumed")
    run("broken", resume=True)
run("broken")
run("begun", plan="other.json", resume=True)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 24 images, a run that one process has begun, and what two processes made of them."""
    home = tmp_path_factory.mktemp("parts")
    (home / "images").mkdir()
    for number in range(24):
        image = np.random.default_rng(number).normal(100 + 2 * number, 40, size=(40, 40, 3)).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(home / "images" / f"{number}.png"), image)
    (home / "plan.json").write_text(json.dumps({"parallel": "sharded"}))
    (home / "other.json").write_text(json.dumps({"plan": [{"name": "parallel", "value": "sharded", "reason": "decided for another run"}]}))
    (home / "in-parts.json").write_text(json.dumps({"parallel": "sharded", "micro_batch": [[0, 2]]}))
    _begin_alone(home)
    (home / "entry.py").write_text(ENTRY)
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
    words += [str(home / "entry.py"), str(home), json.dumps(JOBS)]
    source = str(Path(__file__).resolve().parents[2] / "src")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False, env=environment)
    (home / "stderr").write_text(done.stderr)
    assert done.returncode == 0, done.stderr[-8000:]
    return home


def _begin_alone(home: Path) -> None:
    """Take the first steps of a run in one process, which has no choice between parts and the whole and so does not decide it."""
    undisturbed = PretrainModule.training_step

    def stopped(module: PretrainModule, *batch: Any) -> Any:
        if module.global_step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return undisturbed(module, *batch)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(RunInterrupted):
        patch.setattr(PretrainModule, "training_step", stopped)
        _pretrain(home, "begun", "mae", plan=home / "other.json")


def _pretrain(home: Path, out: str, job: str, **more: Any) -> None:
    """Train in this process, on one thread as each of several does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        isograft.pretrain(home / "images", out=home / out, cache_dir=home / "cache", **{**JOBS[job], **more})
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def alone(home: Path) -> Path:
    """The same trainings by one process."""
    for name in JOBS:
        _pretrain(home, f"alone/{name}", name)
    return home / "alone"


def _log(home: Path, attempt: int, rank: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / f"log-{attempt}-{rank}.json").read_text())
    return found


def _rows(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open() as stream:
        return list(csv.DictReader(stream))


def _weights(run: Path) -> torch.Tensor:
    tensors = isograft.Model.load(run).tensors()
    return torch.cat([tensors[name].double().flatten() for name in sorted(tensors)])


def _apart(one: Path, two: Path) -> float:
    """How far the weights of two runs lie apart, of the norm of the first."""
    first, second = _weights(one), _weights(two)
    assert first.shape == second.shape
    return float((first - second).norm() / first.norm())


@pytest.mark.parametrize("name", JOBS)
def test_two_processes_with_half_of_the_network_each_train_that_of_one_and_tell_its_figures(name: str, home: Path, alone: Path) -> None:
    assert _apart(alone / name, home / name) < 1e-5
    for before, after in zip(_rows(alone / name), _rows(home / name), strict=True):
        assert before.keys() == after.keys()
        for column in before.keys() - {"phase", "images_per_second"}:
            near = pytest.approx(float(before[column] or 0), rel=2e-3, abs=1e-4)
            assert (before[column] == "") == (after[column] == "") and float(after[column] or 0) == near, column


@pytest.mark.parametrize("name", JOBS)
def test_the_files_are_those_of_one_process_and_the_plan_says_that_the_network_was_in_parts(name: str, home: Path, alone: Path) -> None:
    files = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) for folder in (alone / name, home / name)]
    assert files[0] == files[1]
    plans = [{entry["name"]: entry["value"] for entry in isograft.Model.load(run / name).passport.plan} for run in (alone, home)]
    assert [plan.get("parallel") for plan in plans] == [None, "sharded"]


def test_either_process_holds_about_half_of_weights_and_moments(home: Path) -> None:
    held = [_log(home, 0, rank)["held"] for rank in (0, 1)]
    assert sum(held) == pytest.approx(1) and max(held) < 0.6


def test_a_run_that_is_killed_and_started_again_ends_in_the_bytes_of_one_never_disturbed(home: Path) -> None:
    assert [_log(home, 0, rank)["stopped"] for rank in (0, 1)] == [["RunInterrupted", 143], ["ToldElsewhere", 143]]
    assert [_log(home, 1, rank)["broken"] for rank in (0, 1)] == ["done", "done"]
    for name in ("model.safetensors", "seen.parquet"):
        assert (home / "broken" / name).read_bytes() == (home / "mae" / name).read_bytes()


def test_a_state_of_two_processes_goes_on_in_one(home: Path, alone: Path) -> None:
    _pretrain(home, "alone/resumed", "mae", plan=home / "plan.json", resume=True)
    assert _apart(alone / "mae", alone / "resumed") < 1e-5
    assert len(_rows(alone / "resumed")) == len(_rows(alone / "mae"))


def test_a_state_of_one_process_goes_on_in_two(home: Path, alone: Path) -> None:
    assert [_log(home, 1, rank)["begun"] for rank in (0, 1)] == ["done", "done"]
    assert _apart(alone / "mae", home / "begun") < 1e-5
    plan = {entry["name"]: entry["value"] for entry in isograft.Model.load(home / "begun").passport.plan}
    assert plan["parallel"] == "sharded" and len(_rows(home / "begun")) == len(_rows(alone / "mae"))


def test_a_loss_that_is_no_number_sends_both_back_to_the_state_of_both(home: Path) -> None:
    assert [_log(home, 0, rank)["recovered"] for rank in (0, 1)] == ["done", "done"]
    assert (home / "stderr").read_text().count("the loss became nan at step 5: back to the sound state of step 4") == 1
    assert bool(_weights(home / "recovered").isfinite().all()) and _apart(home / "mae", home / "recovered") > 1e-4


def test_a_batch_in_smaller_parts_is_measured_and_trained_to_the_same_network(home: Path) -> None:
    assert _apart(home / "mae", home / "in-parts") < 1e-5
    plan = {entry["name"]: entry["value"] for entry in isograft.Model.load(home / "in-parts").passport.plan}
    assert plan["micro_batch"] == [[0, 2]] and plan["step_seconds"]


def test_a_network_with_batch_norm_is_refused_in_one_sentence(home: Path) -> None:
    assert [_log(home, 0, rank)["normed"] for rank in (0, 1)] == [["IsograftError", 2], ["ToldElsewhere", 2]]
    assert (home / "stderr").read_text().count("has batch norm, which was not tried in parts") == 1
