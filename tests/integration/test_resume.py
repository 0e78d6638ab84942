"""Ctrl-C and --resume, as a user meets them: a process, a signal, and the same bytes in the end."""

import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

PRETRAIN = ("--backbone", "test_resnet", "--image-size", "32", "--epochs", "200", "--batch-size", "16", "--threads", "1")
BYOL = (*PRETRAIN, "--method", "byol")
FINETUNE = ("--init", "scratch", "--backbone", "test_resnet", "--image-size", "32", "--epochs", "600", "--threads", "1")


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


def command(verb: str, images: Path, out: Path, options: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "isograft", verb, str(images), "--out", str(out), "--cache-dir", str(images.parent / "cache"), *options]


def interrupt(words: list[str]) -> tuple[int, str]:
    """Run a command, press Ctrl-C once it reports progress, and return its exit code and what it said after that."""
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(("Pretraining (", "Fine-tuning (")):
            break
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    return process.wait(timeout=120), rest


@pytest.mark.parametrize(("verb", "options"), [("pretrain", PRETRAIN), ("pretrain", BYOL), ("finetune", FINETUNE)])
def test_an_interrupted_run_resumes_to_the_bytes_of_an_uninterrupted_one(
    verb: str, options: tuple[str, ...], images: Path, tmp_path: Path
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    subprocess.run(command(verb, images, whole, options), check=True, capture_output=True)
    code, rest = interrupt(command(verb, images, stopped, options))
    assert code == 130, rest
    assert "--resume" in rest
    assert (stopped / "checkpoints" / "last.ckpt").exists()
    assert not (stopped / "model.json").exists()
    subprocess.run(command(verb, images, stopped, (*options, "--resume")), check=True, capture_output=True)
    assert (stopped / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_an_unfinished_folder_is_no_model_and_says_how_to_finish_it(images: Path, tmp_path: Path) -> None:
    code, _ = interrupt(command("pretrain", images, tmp_path / "run", PRETRAIN))
    assert code == 130
    shown = subprocess.run([sys.executable, "-m", "isograft", "show", str(tmp_path / "run")], capture_output=True, text=True)
    assert shown.returncode == 2
    assert "--resume" in shown.stderr
