"""One pretraining in two processes: the figures of one process, one voice, one stop, and a death that changes no byte."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
import torch

import isograft
from isograft.data.places import HELD_OUT_FILE

SMALL: dict[str, Any] = {"backbone": "test_resnet", "image_size": 32, "threads": 1, "precision": "fp32", "batch_size": 8}
PRETRAIN: dict[str, Any] = {**SMALL, "epochs": 4, "method": "simclr"}
FINETUNE: dict[str, Any] = {**SMALL, "epochs": 4}
JOBS: dict[str, tuple[str, dict[str, Any]]] = {
    "whole": ("pretrain", PRETRAIN),
    "shards": ("pretrain", {**PRETRAIN, "method": "vicreg", "data": "pool.parquet", "cache_limit": 0}),
    "classes": ("pretrain", {**PRETRAIN, "method": "supervised"}),
    "new": ("finetune", {**FINETUNE, "init": "scratch", "val_fraction": 0.3}),
    "paper": ("finetune", {**FINETUNE, "init": "scratch", "strategy": "paper"}),
    "started": ("finetune", {**FINETUNE, "backbone": "auto", "init": "whole", "val_fraction": 0.3}),
    "probe": ("finetune", {"threads": 1, "init": "whole", "strategy": "probe"}),
    "folds": ("finetune", {**FINETUNE, "backbone": "auto", "init": "whole", "folds": 2}),
}

# What torchrun starts twice, four times over. At first all trains undisturbed; a pretraining goes back from a loss that is no number in
# the second process; another is ended by a SIGTERM to the second, goes on, and dies in the first. The second time, that goes on; then a
# cross-validation dies in its second fold. The third time that goes on too, and memory is full in the second process. The fourth time
# it goes on with less at a time, and at last the second process ends with an error of its own.
ENTRY = """
import json, os, signal, sys
from pathlib import Path
import isograft
import torch
from isograft.cli import report
from isograft.errors import IsograftError
from isograft.train.finetune_module import FinetuneModule
from isograft.train.pretrain_module import PretrainModule

home, jobs = Path(sys.argv[1]), json.loads(sys.argv[2])
rank, attempt = int(os.environ["RANK"]), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
log = {}
at = {}

def disturbed(undisturbed):
    def training_step(self, batch, number):
        event, who, member = at.get(self.global_step, (None, -1, 0))
        if who == rank and self.seed == member:
            if event == "full":
                at.clear()
                raise torch.OutOfMemoryError("no room")
            if event == "error":
                raise IsograftError("the second process has found something wrong")
            if event == "nan":
                at.clear()
                return {name: value * float("nan") for name, value in undisturbed(self, batch, number).items()}
            os.kill(os.getpid(), getattr(signal, event))
        return undisturbed(self, batch, number)
    return training_step

for module in (PretrainModule, FinetuneModule):
    module.training_step = disturbed(module.training_step)

def run(name, job=None, told=None, **more):
    verb, options = jobs[job or name]
    options = {"data": "images", **options, **more}
    if options.get("init") == "whole":
        options["init"] = str(home / "whole")
    try:
        getattr(isograft, verb)(home / options.pop("data"), out=home / name, cache_dir=home / "cache", **options)
        log[told or name] = "done"
    except IsograftError as error:
        log[told or name] = [type(error).__name__, report(error)]
    (home / f"log-{attempt}-{rank}.json").write_text(json.dumps(log))

if attempt == 0:
    run("odd", "whole", batch_size=7)
    run("odder", "new", batch_size=7)
    for name in jobs:
        run(name)
    run("timed", "whole", epochs="auto", max_time="6s", precision="auto")
    at = {5: ("nan", 1, 0)}
    run("recovered", "whole")
    at = {1: ("nan", 1, 0)}
    run("begun-anew", "started")
    at = {3: ("SIGTERM", 1, 0), 7: ("SIGKILL", 0, 0)}
    run("broken", "whole")
    run("broken", "whole", "lost", resume=True)
elif attempt == 1:
    run("whole")
    run("broken", "whole")
    at = {3: ("SIGKILL", 1, 1)}
    run("broken-folds", "folds")
elif attempt == 2:
    run("broken-folds", "folds")
    at = {2: ("full", 1, 0)}
    run("tight", "started")
    sys.exit(log["tight"][1])
else:
    run("tight", "started")
    at = {2: ("error", 1, 0)}
    run("failed", "new")
    sys.exit(0 if log["failed"] == "done" else log["failed"][1])
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, 15 of one class and 9 of the other, and what two processes made of them."""
    home = tmp_path_factory.mktemp("pair")
    for kind, count, light in (("dark", 15, 100), ("light", 9, 140)):
        (home / "images" / kind).mkdir(parents=True)
        for number in range(count):
            image = np.random.default_rng([number, light]).normal(light, 40, size=(40, 40, 3)).clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(home / "images" / kind / f"{number}.png"), image)
    (home / "tar").mkdir()
    with tarfile.open(home / "tar" / "0.tar", "w") as archive:
        for path in sorted((home / "images").rglob("*.png")):
            archive.add(path, path.name if path.parent.name == "dark" else f"light-{path.name}")
    isograft.ingest(home / "tar", out=home / "pool.parquet")
    (home / "entry.py").write_text(ENTRY)
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "3"]
    words += [str(home / "entry.py"), str(home), json.dumps(JOBS)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=560, check=False, env=_environment())
    (home / "stderr").write_text(done.stderr)
    assert (home / "log-3-1.json").exists(), done.stderr[-8000:]
    return home


def _environment(**more: str) -> dict[str, str]:
    source = str(Path(__file__).resolve().parents[2] / "src")
    path = os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **more}


@pytest.fixture(scope="module")
def alone(home: Path) -> Path:
    """The same trainings by one process, each from the same weights."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for name, (verb, options) in JOBS.items():
        given = {"data": "images", **options, **({"init": home / "whole"} if options.get("init") == "whole" else {})}
        getattr(isograft, verb)(home / given.pop("data"), out=home / "alone" / name, cache_dir=home / "cache", **given)
    torch.set_num_threads(threads)
    return home / "alone"


def _log(home: Path, attempt: int, rank: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / f"log-{attempt}-{rank}.json").read_text())
    return found


def _losses(run: Path) -> list[float]:
    return [float(row["loss"]) for row in _rows(run) if row["loss"]]


def _rows(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open() as stream:
        return list(csv.DictReader(stream))


def _weights(run: Path) -> torch.Tensor:
    tensors = isograft.model.Model.load(run).tensors()
    return torch.cat([tensors[name].double().flatten() for name in sorted(tensors)])


@pytest.mark.parametrize("name", JOBS)
def test_two_processes_train_the_network_of_one_and_tell_the_same_figures(name: str, home: Path, alone: Path) -> None:
    one, two = _weights(alone / name), _weights(home / name)
    assert one.shape == two.shape
    assert float((one - two).norm() / one.norm()) < (
        2e-3 if name in {"whole", "shards"} else 5e-5
    )  # a loss over the whole batch amplifies rounding
    for before, after in zip(_rows(alone / name), _rows(home / name), strict=True):
        assert before.keys() == after.keys()
        for column in before.keys() - {"phase", "images_per_second"}:
            assert (before[column] == after[column] == "") or float(after[column]) == pytest.approx(
                float(before[column]), rel=2e-3, abs=1e-4
            ), column
    passports = [json.loads((folder / name / "model.json").read_bytes()) for folder in (alone, home)]
    assert passports[1]["metrics"] == pytest.approx(passports[0]["metrics"], rel=2e-3, abs=1e-4)


@pytest.mark.parametrize("name", JOBS)
def test_one_writer_leaves_the_files_of_one_process_and_speaks_once(name: str, home: Path, alone: Path) -> None:
    files = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) for folder in (alone / name, home / name)]
    assert files[0] == files[1]
    assert (home / "stderr").read_text().count(f"model: {home / name}\n") == 1
    plan = {entry["name"]: entry["value"] for entry in isograft.model.Model.load(home / name).passport.plan}
    assert plan.get("processes") == (None if name == "probe" else 2)


@pytest.mark.parametrize("name", ["new", "started", "probe", "folds"])
def test_held_out_images_are_answered_alike(name: str, home: Path, alone: Path) -> None:
    one, two = (pl.read_parquet(folder / name / HELD_OUT_FILE) for folder in (alone, home))
    assert one["id"].to_list() == two["id"].to_list()
    numbers = [column for column, kind in one.schema.items() if kind.is_float() or kind.is_nested()]
    assert numbers
    for column in numbers:
        np.testing.assert_allclose(np.stack(two[column].to_list()), np.stack(one[column].to_list()), rtol=5e-3, atol=5e-3)


def test_a_signal_to_one_process_stops_all_at_the_same_step_and_one_says_so(home: Path) -> None:
    told = (home / "stderr").read_text()
    assert told.count("stopped at step 4 of 12; the state is in") == 1
    log = {rank: _log(home, 0, rank)["broken"] for rank in (0, 1)}
    assert log == {0: ["RunInterrupted", 143], 1: ["ToldElsewhere", 143]}


def test_who_loses_another_process_says_so_in_a_sentence(home: Path) -> None:
    told = (home / "stderr").read_text()
    assert told.count("Traceback") == 1  # torchrun's own, at the very end
    lost = [_log(home, 0, 1).get("lost"), _log(home, 1, 0).get("broken-folds")]  # unless torchrun has ended it before it could
    assert told.count("another process of this training has ended without a word") == lost.count(["IsograftError", 2])
    assert all(one in (None, ["IsograftError", 2]) for one in lost)


def test_a_process_that_is_killed_is_started_again_and_the_run_ends_in_the_bytes_of_one_never_disturbed(home: Path) -> None:
    for rank in (0, 1):
        assert _log(home, 1, rank).items() >= {"whole": "done", "broken": "done"}.items()
        assert _log(home, 2, rank)["broken-folds"] == "done"
    for broken, whole in (("broken", "whole"), ("broken-folds", "folds")):
        for name in ("model.safetensors", "seen.parquet"):
            assert (home / broken / name).read_bytes() == (home / whole / name).read_bytes()
        assert sorted(path.name for path in (home / broken).iterdir()) == sorted(path.name for path in (home / whole).iterdir())
    assert _losses(home / "broken") == _losses(home / "whole")


def test_a_loss_that_is_no_number_in_one_process_sends_all_back_to_the_same_step(home: Path) -> None:
    told = (home / "stderr").read_text()
    returns = [("recovered", "whole", "5: back to the sound state of step 4"), ("begun-anew", "started", "1: back to the start")]
    for name, whole, back in returns:
        assert [_log(home, 0, rank)[name] for rank in (0, 1)] == ["done", "done"]
        assert told.count(f"the loss became nan at step {back}") == 1
        assert [row["lr_scale"] for row in _rows(home / name) if row["phase"] == "change"] == ["0.5"]
        assert bool(_weights(home / name).isfinite().all()) and not torch.equal(_weights(home / name), _weights(home / whole))


def test_after_memory_was_full_in_one_process_all_go_on_in_smaller_parts_to_the_same_network(home: Path) -> None:
    assert [_log(home, 3, rank)["tight"] for rank in (0, 1)] == ["done", "done"]
    told = (home / "stderr").read_text()
    assert told.count("memory was full in process 1 at step 2: with --resume the network sees 2 of its 4 pictures at a time") == 1
    plan = {entry["name"]: entry["value"] for entry in isograft.model.Model.load(home / "tight").passport.plan}
    assert plan["micro_batch"] == [[2, 2]]
    one, two = _weights(home / "started"), _weights(home / "tight")  # batch norm is frozen there, so parts change nothing
    assert float((one - two).norm() / one.norm()) < 5e-5


def test_a_batch_that_cannot_be_shared_is_refused_in_one_sentence_from_one_process(home: Path) -> None:
    told = (home / "stderr").read_text()
    assert told.count("a batch of 7 images cannot be shared evenly by 2 processes; give --batch-size 6") == 2  # one of either verb
    assert not (home / "odd").exists() and not (home / "odder").exists()


def test_an_error_of_one_process_ends_both_and_is_said_once(home: Path) -> None:
    told = (home / "stderr").read_text()
    assert _log(home, 3, 1)["failed"] == ["IsograftError", 2]
    assert told.count("isograft: the second process has found something wrong") == 1
    assert not (home / "failed" / "model.json").exists()


def test_what_is_measured_is_decided_by_one_and_a_time_limit_is_kept_by_all(home: Path) -> None:
    assert [_log(home, 0, rank)["timed"] for rank in (0, 1)] == ["done", "done"]
    plan = {entry["name"]: entry["value"] for entry in isograft.model.Model.load(home / "timed").passport.plan}
    assert plan["precision"] in {"fp32", "bf16"} and plan["step_seconds"]
    assert int(_rows(home / "timed")[-1]["step"]) == plan["total_steps"]


def _srun(home: Path, restarts: int) -> list[subprocess.Popen[str]]:
    """Two processes as srun starts them, by what it writes into the environment."""
    options = ["--backbone", "test_resnet", "--image-size", "32", "--threads", "1", "--epochs", "30", "--batch-size", "8"]
    words = [sys.executable, "-m", "isograft", "pretrain", str(home / "images"), "--out", str(home / "job"), *options]
    step = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_NTASKS": "2"}
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_RESTART_COUNT": str(restarts)}
    return [
        subprocess.Popen(
            [*words, "--cache-dir", str(home / "cache")],
            env=_environment(**step, **job, SLURM_PROCID=rank, SLURM_LOCALID=rank),
            stderr=(home / f"srun-{restarts}-{rank}").open("w"),
            text=True,
        )
        for rank in ("0", "1")
    ]


def test_a_job_that_slurm_ends_and_puts_back_in_the_queue_goes_on(home: Path) -> None:
    processes = _srun(home, 0)
    patience = time.monotonic() + 200
    while not (home / "job" / "run.json").exists() or "total_steps" not in (home / "job" / "run.json").read_text():
        assert time.monotonic() < patience and all(process.poll() is None for process in processes)
        time.sleep(0.1)
    time.sleep(1)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    assert [process.wait(timeout=200) for process in processes] == [143, 143]
    said = [(home / f"srun-0-{rank}").read_text() for rank in (0, 1)]
    assert "stopped at step" in said[0] and "stopped" not in said[1]
    assert [process.wait(timeout=200) for process in _srun(home, 1)] == [0, 0]
    assert "srun has started this run again: it goes on from its last saved state" in (home / "srun-1-0").read_text()
    assert isograft.model.Model.load(home / "job").passport.kind == "backbone"
