"""One pretraining by each tool of peers_pretrain.py: a command, run from image files to weights, watched from outside."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import peers
from watching import watch

HERE = Path(__file__).resolve().parent
LIMIT_S = 4 * 3600


@dataclass(frozen=True)
class Job:
    """What one tool is to do.

    Attributes:
        images: A flat folder.
        folder: Where to work; emptied first.
        epochs: Passes over the images.
        seed: Seed of the run.
        method: `simclr` or `dino`.
    """

    images: Path
    folder: Path
    epochs: int
    seed: int
    method: str


@dataclass(frozen=True)
class Done:
    """What one run took: wall seconds of all its commands, MB of memory (see watching.Watched), and the weights it left."""

    seconds: float
    cpu_seconds: float
    rss_mb: float
    pss_mb: float
    weights: Path


Tool = Callable[[Job, argparse.Namespace], Done]


def isograft(job: Job, args: argparse.Namespace, plan: dict[str, object] | None = None) -> Done:
    """Ingest and pretrain with the defaults, from an empty cache."""
    command, threads = [sys.executable, "-m", "isograft"], ["--threads", str(args.threads)]
    fresh(job.folder)
    pool, model = job.folder / "pool.parquet", job.folder / "model"
    options = ["--method", job.method, "--backbone", args.backbone, "--image-size", str(args.size), "--batch-size", str(args.batch_size)]
    options += ["--epochs", str(job.epochs), "--seed", str(job.seed), "--precision", args.precision]
    if plan:
        (job.folder / "plan.json").write_text(json.dumps(plan))
        options += ["--plan", str(job.folder / "plan.json")]
    env = with_threads(dict(os.environ), args.threads)
    read = watch([*command, "ingest", str(job.images), "--out", str(pool), *threads], env, LIMIT_S)
    cache = ["--cache-dir", str(job.folder / "cache")]
    done = watch([*command, "pretrain", str(pool), "--out", str(model), *options, *threads, *cache], env, LIMIT_S)
    peaks = max(read.rss_mb, done.rss_mb), max(read.pss_mb, done.pss_mb)
    return Done(read.seconds + done.seconds, read.cpu_seconds + done.cpu_seconds, *peaks, model)


def isograft_one_size(job: Job, args: argparse.Namespace) -> Done:
    """The same with views of the full size throughout, as the peers have them."""
    return isograft(job, args, {"resolution": [[args.size, 1.0]]})


def lightly_train(job: Job, args: argparse.Namespace) -> Done:
    """lightly-train's own command with its defaults but for network, size, batch, workers and passes."""
    fresh(job.folder)
    words = {"fp32": "32-true", "bf16": "bf16-mixed", "auto": "auto"}
    out = job.folder / "out"
    options = {
        "out": out,
        "data": job.images,
        "model": f"torchvision/{args.backbone}",
        "method": job.method,
        "epochs": job.epochs,
        "batch_size": args.batch_size,
        "num_workers": args.threads,
        "precision": words[args.precision],
        "accelerator": "cpu" if args.cpu else "auto",
        "seed": job.seed,
        "transform_args.image_size": f"[{args.size},{args.size}]",
        "loggers.tensorboard": "null",
    }
    if job.method == "dino":  # its default of 96 px would be larger than the whole views; half of them, as ours
        local = max(8, 8 * round(args.size / 16))
        options["transform_args.local_view.view_size"] = f"[{local},{local}]"
    command = [str(args.lightly_train.with_name("lightly-train")), "pretrain", *(f"{name}={value}" for name, value in options.items())]
    env = with_threads(peers.environment(LIGHTLY_TRAIN_CACHE_DIR=str(job.folder / "cache")), args.threads)
    done = watch(command, env, LIMIT_S)
    return Done(done.seconds, done.cpu_seconds, done.rss_mb, done.pss_mb, out / "exported_models/exported_last.pt")


def lightly_loop(job: Job, args: argparse.Namespace) -> Done:
    """The plain loop of lightly_loop.py."""
    fresh(job.folder)
    weights = job.folder / "weights.safetensors"
    command = [sys.executable, str(HERE / "lightly_loop.py"), str(job.images), "--out", str(weights), "--backbone", args.backbone]
    command += ["--size", str(args.size), "--batch-size", str(args.batch_size), "--epochs", str(job.epochs), "--seed", str(job.seed)]
    command += ["--threads", str(args.threads), "--precision", "bf16" if args.precision == "bf16" else "fp32"]
    done = watch(command, with_threads(dict(os.environ), args.threads), LIMIT_S)
    return Done(done.seconds, done.cpu_seconds, done.rss_mb, done.pss_mb, weights)


TOOLS: dict[str, Tool] = {
    "isograft": isograft,
    "isograft, one size": isograft_one_size,
    "lightly-train": lightly_train,
    "lightly loop": lightly_loop,
}


def with_threads(env: dict[str, str], threads: int) -> dict[str, str]:
    """The environment with so many threads for arithmetic."""
    return {**env, "OMP_NUM_THREADS": str(threads)}


def fresh(folder: Path) -> None:
    """An empty folder: nothing decoded before, nothing cached."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
