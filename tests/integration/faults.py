"""What the tests of disturbed trainings share: tiny runs, and faults at a step of theirs."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

import isograft
from isograft.train import recovery
from isograft.train.finetune_module import FinetuneModule
from isograft.train.pretrain_module import PretrainModule

SMALL: dict[str, Any] = {"backbone": "test_resnet", "image_size": 32, "threads": 1, "precision": "fp32", "batch_size": 16}
FINETUNE: dict[str, Any] = {**SMALL, "init": "scratch", "epochs": 8, "strategy": "full"}
RUNS: dict[str, dict[str, Any]] = {
    "pretrain": {**SMALL, "epochs": 4},  # 12 steps, a state every 2
    "finetune": {**FINETUNE, "val_fraction": 0.3},
    "folds": {**FINETUNE, "folds": 2},
}
MODULES: dict[str, Any] = {"pretrain": PretrainModule, "finetune": FinetuneModule, "folds": FinetuneModule}
STORIES = sorted(RUNS)


def verb_of(story: str) -> str:
    return "pretrain" if story == "pretrain" else "finetune"


def draw_images(root: Path) -> Path:
    """A class-per-folder tree of 24 images of either class."""
    for kind in ("a", "b"):
        (root / kind).mkdir(parents=True)
        for number in range(24):
            rng = np.random.default_rng([ord(kind), number])
            image = rng.normal(120 + 30 * (kind == "b"), 40, size=(40, 40, 3)).clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(root / kind / f"{number}.png"), image)
    return root


class Runs:
    """Trains tiny networks side by side."""

    def __init__(self, images: Path, folder: Path) -> None:
        self.images, self.folder = images, folder

    def __call__(self, story: str, name: str, **further: Any) -> Path:
        given = {**RUNS[story], "cache_dir": self.folder / "cache", **further}
        getattr(isograft, verb_of(story))(self.images, out=self.folder / name, **given)
        return self.folder / name

    def command(self, story: str, name: str, *further: str) -> list[str]:
        """The same as words of the command line."""
        options = [word for key, value in RUNS[story].items() for word in (f"--{key.replace('_', '-')}", str(value))]
        place = ["--out", str(self.folder / name), "--cache-dir", str(self.folder / "cache")]
        return [verb_of(story), str(self.images), *place, *options, *further]


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def decision(folder: Path, name: str) -> dict[str, Any]:
    plan = json.loads((folder / "model.json").read_text())["plan"]
    return next(entry for entry in plan if entry["name"] == name)


def rows(folder: Path, phase: str) -> list[dict[str, str]]:
    """The rows of history.csv of a phase, without empty fields."""
    header, *lines = [line.split(",") for line in (folder / "history.csv").read_text().splitlines()]
    found = [dict(zip(header, line, strict=True)) for line in lines]
    return [{name: value for name, value in row.items() if value} for row in found if row["phase"] == phase]


def at_step(monkeypatch: pytest.MonkeyPatch, story: str, step: int, act: Callable[[], None]) -> None:
    """Do something before a step is computed."""
    whole = MODULES[story].training_step

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        if self.global_step == step:
            act()
        return whole(self, batch, batch_idx)

    monkeypatch.setattr(MODULES[story], "training_step", training_step)


def signalled(monkeypatch: pytest.MonkeyPatch, story: str, step: int, number: int) -> None:
    """Send a signal to this process before a step is computed."""
    at_step(monkeypatch, story, step, lambda: os.kill(os.getpid(), number))


def room_for(monkeypatch: pytest.MonkeyPatch, most: int, from_step: int = 0, in_backward: bool = False) -> list[int]:
    """Let networks run out of memory above so many images at once; returns how many they were asked to see."""
    from timm.models.resnet import ResNet

    seen: list[int] = []
    now, forward = [0], ResNet.forward

    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def limited(self: Any, images: Tensor) -> Tensor:
        tight = self.training and now[0] >= from_step and torch.is_grad_enabled()
        seen.extend([len(images)] * tight)
        if tight and len(images) > most and not in_backward:
            fail()
        out = forward(self, images)
        if tight and len(images) > most and out.requires_grad:
            out.register_hook(fail)
        return out

    for module in {*MODULES.values()}:
        begin = module.on_train_batch_start

        def note(self: Any, batch: Any, batch_idx: int, begin: Any = begin) -> None:
            now[0] = self.global_step
            begin(self, batch, batch_idx)

        monkeypatch.setattr(module, "on_train_batch_start", note)
    monkeypatch.setattr(ResNet, "forward", limited)
    return seen


def diverging(monkeypatch: pytest.MonkeyPatch, story: str, step: int, above: float, apart: int = 3) -> list[float]:
    """Let the loss become NaN at a step while rates are above a share of the plan's; returns the shares met there.

    States of a fine-tuning that can be gone back to are `apart` steps from each other.
    """
    met: list[float] = []
    check = MODULES[story].check_loss
    monkeypatch.setattr(recovery, "LEAST_APART", apart)

    def check_loss(self: Any, loss: float) -> None:
        if self.global_step - 1 == step:
            met.append(self.course.lr_scale(step))
            if met[-1] > above:
                loss = loss * float("nan")
        check(self, loss)

    monkeypatch.setattr(MODULES[story], "check_loss", check_loss)
    return met
