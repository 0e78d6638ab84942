"""A study's folder made up on the spot, in the documented format: answers of arms whose quality is set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from isograft.assess.metrics import score

FIGURES = ("accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "macro_roc_auc", "mcc")
CHAINS: dict[str, list[str]] = {
    "scratch": [],
    "imagenet": ["imagenet"],
    "in-domain": ["pool:skin"],
    "imagenet-pool": ["imagenet", "pool:skin"],
}


def fabricate(
    folder: Path,
    *,
    skill: Mapping[str, float],
    tasks: Sequence[str] = ("lesions",),
    protocols: Sequence[str] = ("clean",),
    budgets: Sequence[int] = (10, 25, 0),
    repeats: int = 5,
    groups: int = 90,
    images: int = 3,
    classes: Sequence[str] = ("benign", "malignant"),
    title: str = "A synthetic study",
    data: str = "/somewhere/synthetic",
    inflation: float = 0.0,
    metric: str = "macro_f1",
    skip: Sequence[tuple[str, int, int]] = (),
    seed: int = 0,
) -> Path:
    """Write study.json, results.parquet, ledger.jsonl and jobs/*/predictions.parquet.

    Args:
        folder: Where.
        skill: Arm to the separation of its scores; more labels add to it, equal for all arms.
        inflation: Added to every skill under another protocol than clean.
        skip: (arm, budget, repeat) of runs that are not there.
    """
    rows: list[dict[str, Any]] = []
    ledger = [entry("pretraining", "pool:skin", 600.0, 50_000, [])] if any("pool:skin" in CHAINS[arm] for arm in skill) else []
    for task in tasks:
        draw = np.random.default_rng([seed, *task.encode()])
        of_group = np.arange(groups) % len(classes)
        owner = np.repeat(np.arange(groups), draw.integers(1, images + 1, groups))
        truth = of_group[owner]
        hardness = {arm: 0.5 * draw.normal(size=groups)[owner] + 0.5 * draw.normal(size=len(owner)) for arm in skill}
        for protocol in protocols:
            for repeat in range(repeats):
                split = np.random.default_rng([seed, repeat, *task.encode()])
                test = np.isin(owner, split.permutation(groups)[: int(0.4 * groups)])
                for arm in skill:
                    for budget in budgets:
                        if (arm, budget, repeat) in skip:
                            continue
                        labels = budget * len(classes) if budget else int((~test).sum())
                        gain = skill[arm] + 0.15 * np.log(labels) + (inflation if protocol != "clean" else 0.0) + 0.05 * split.normal()
                        noise = hardness[arm] + 0.3 * split.normal(size=len(owner))
                        key = hashlib.sha256(f"{task}{protocol}{arm}{budget}{repeat}".encode()).hexdigest()[:16]
                        answers = probabilities(gain, noise, truth, len(classes))[test]
                        write_predictions(folder / "jobs" / key, np.flatnonzero(test), owner[test], truth[test], answers)
                        rows.append(row(protocol, task, arm, budget, repeat, labels, owner[test], truth[test], answers, classes, key))
                        ledger.append(entry(key, arm, 6.0, labels * 20, ["pretraining"] if "pool:skin" in CHAINS[arm] else []))
    write_about(folder, title, data, skill, tasks, protocols, budgets, repeats, classes, metric)
    pl.DataFrame(rows).sort("backbone", "protocol", "task", "arm", "labels_per_class", "repeat").write_parquet(folder / "results.parquet")
    (folder / "ledger.jsonl").write_text("".join(json.dumps(one) + "\n" for one in ledger))
    return folder


def probabilities(gain: float, noise: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """Softmax of scores in which the true class is ahead by `gain`, less noise."""
    scores = np.zeros((len(truth), classes))
    scores[np.arange(len(truth)), truth] = gain + noise
    scores += 0.3 * np.random.default_rng(len(truth)).normal(size=scores.shape)
    raised = np.exp(scores)
    return raised / raised.sum(axis=1, keepdims=True)


def write_predictions(folder: Path, rows: np.ndarray, owner: np.ndarray, truth: np.ndarray, answers: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    frame = pl.DataFrame({"id": [f"{k:016x}" for k in rows], "group": [f"g{k}" for k in owner], "truth": truth.astype(np.int64)})
    frame.with_columns(**{f"p{k}": pl.Series(answers[:, k]) for k in range(answers.shape[1])}).write_parquet(folder / "predictions.parquet")


def row(
    protocol: str,
    task: str,
    arm: str,
    budget: int,
    repeat: int,
    labels: int,
    owner: np.ndarray,
    truth: np.ndarray,
    answers: np.ndarray,
    classes: Sequence[str],
    key: str,
) -> dict[str, Any]:
    figures = score(truth, answers, classes)
    pool = 1000 if "pool:skin" in CHAINS[arm] else 0
    return {
        "backbone": "resnet18",
        "protocol": protocol,
        "task": task,
        "arm": arm,
        "labels_per_class": budget,
        "repeat": repeat,
        "seed": repeat,
        "train_images": labels,
        "test_images": len(truth),
        "test_groups": len(np.unique(owner)),
        "pool_images": pool - 7 * bool(pool),
        "pool_removed": 7 * bool(pool) if protocol == "clean" else 0,
        "pretrain_images_seen": 50 * pool,
        "finetune_images_seen": 20 * labels,
        **{name: figures[name] for name in FIGURES},
        "job": key,
    }


def entry(key: str, name: str, seconds: float, images: int, parents: list[str]) -> dict[str, Any]:
    return {"key": key, "name": name, "seconds": seconds, "images_seen": images, "parents": parents, "started": 0.0, "finished": seconds}


def write_about(
    folder: Path,
    title: str,
    data: str,
    skill: Mapping[str, float],
    tasks: Sequence[str],
    protocols: Sequence[str],
    budgets: Sequence[int],
    repeats: int,
    classes: Sequence[str],
    metric: str,
) -> None:
    spec = {
        "title": title,
        "pools": {"skin": {"data": f"{data}/pool"}},
        "tasks": {task: {"data": f"{data}/{task}", "title": f"{task.capitalize()}, benign or not"} for task in tasks},
        "arms": {arm: CHAINS[arm] for arm in skill},
        "labels_per_class": [budget or "all" for budget in budgets],
        "repeats": repeats,
        "test_fraction": 0.4,
        "seed": 0,
        "backbones": ["resnet18"],
        "image_size": 64,
        "pretrain": {"method": "auto", "epochs": 50},
        "finetune": {"strategy": "probe"},
        "metric": metric,
        "baselines": [arm for arm in ("scratch", "imagenet") if arm in skill],
        "protocols": list(protocols),
    }
    about = {
        "spec": spec,
        "left_out": ["The arm double is left out of the task lesions, because its chain trains on that task."],
        "software": {"isograft": "0.1.0"},
        "classes": {task: list(classes) for task in tasks},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(about, indent=2))
