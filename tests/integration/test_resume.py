"""Ctrl-C and --resume, as a user meets them: a process, a signal, and the same bytes in the end."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

PRETRAIN = ("--backbone", "test_resnet", "--image-size", "32", "--epochs", "60", "--batch-size", "16", "--threads", "1")
FINETUNE = ("--init", "scratch", "--backbone", "test_resnet", "--image-size", "32", "--epochs", "200", "--threads", "1")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "images"
    for kind in ("a", "b"):
        (root / kind).mkdir(parents=True)
        for number in range(24):
            rng = np.random.default_rng([ord(kind), number])
            image = rng.normal(120 + 30 * (kind == "b"), 40, size=(40, 40, 3)).clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(root / kind / f"{number}.png"), image)
    return root


def run(verb: str, images: Path, out: Path, options: tuple[str, ...]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "isograft", verb, str(images), "--out", str(out), "--cache-dir", str(images.parent / "cache"), *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("verb", "options"), [("pretrain", PRETRAIN), ("finetune", FINETUNE)])
def test_an_interrupted_run_resumes_to_the_bytes_of_an_uninterrupted_one(
    verb: str, options: tuple[str, ...], images: Path, tmp_path: Path
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert run(verb, images, whole, options).wait(timeout=300) == 0
    process = run(verb, images, stopped, options)
    assert process.stderr is not None
    for line in process.stderr:  # the plan is printed just before the training starts
        if line.strip().startswith("precision") or "probe_c" in line:
            break
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(timeout=120) == 130, rest
    assert "--resume" in rest
    assert (stopped / "checkpoints" / "last.ckpt").exists()
    assert not (stopped / "model.json").exists()
    resumed = run(verb, images, stopped, (*options, "--resume"))
    assert resumed.wait(timeout=300) == 0, resumed.stderr.read() if resumed.stderr else ""
    assert (stopped / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_an_unfinished_folder_is_no_model_and_says_how_to_finish_it(images: Path, tmp_path: Path) -> None:
    process = run("pretrain", images, tmp_path / "run", (*PRETRAIN[:4], "--epochs", "100000", *PRETRAIN[6:]))
    assert process.stderr is not None
    for line in process.stderr:
        if line.strip().startswith("precision"):
            break
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 130
    shown = subprocess.run([sys.executable, "-m", "isograft", "show", str(tmp_path / "run")], capture_output=True, text=True)
    assert shown.returncode == 2
    assert "--resume" in shown.stderr
