"""Peak memory of ingest, pretrain, finetune and predict, by number of images: pixels stay on the disk, so it should hardly grow.

Every command is a process of its own on so many drawn images (64 x 48 pixels as JPEG), watched from outside; the peak is that of
all its processes, shared pages counted once. Pretraining and fine-tuning stop after a few steps: memory does not grow with steps,
but everything that is made for all images at once (manifest, cache, order, embeddings of a probe) is there.

Claim: at most 25 KB more for every further image, whatever the command.

    python benchmarks/memory.py [--counts 1000 4000 16000]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import arguments, described, finish, parser, significant
from machine import cores
from material import photographs
from watching import watch

MOST_KB = 25.0


def commands(folder: Path, images: Path, args: Any) -> dict[str, list[str]]:
    """The commands in the order in which they need each other."""
    plan = folder / "plan.json"
    plan.write_text(json.dumps({"total_steps": 5}))
    network = ["--backbone", args.backbone, "--image-size", str(args.size), "--cache-dir", str(folder / "cache")]
    table = str(folder / "images.parquet")
    return {
        "ingest": ["ingest", str(images), "--out", table],
        "pretrain": ["pretrain", table, "--out", str(folder / "pretrained"), *network, "--plan", str(plan)],
        "finetune, probe": ["finetune", table, "--out", str(folder / "probe"), "--init", "scratch", "--strategy", "probe", *network],
        "finetune, full": ["finetune", table, "--out", str(folder / "full"), "--init", "scratch", "--plan", str(plan), *network],
        "predict": ["predict", str(folder / "probe"), table, "--out", str(folder / "out.parquet"), "--engine", "torch"],
    }


def measure(count: int, args: Any) -> Iterator[dict[str, Any]]:
    """A row for every command, on so many images."""
    env = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        images = photographs(folder / "images", count, 64, 48, classes=2, seed=count)
        for name, words in commands(folder, images, args).items():
            if args.commands and name not in args.commands:
                continue
            done = watch([sys.executable, "-m", "isograft", *words, "--threads", str(args.threads)], env, limit=3600)
            yield {"command": name, "images": count, "peak_mb": round(done.pss_mb, 1), "seconds": significant(done.seconds)}


def growth(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """KB per further image between the smallest and the largest number, for every command."""
    found = []
    for command in dict.fromkeys(row["command"] for row in rows):
        mine = sorted((row["images"], row["peak_mb"]) for row in rows if row["command"] == command)
        (few, low), (many, high) = mine[0], mine[-1]
        if many > few:
            more = significant(1024 * (high - low) / (many - few))
            found.append({"command": command, "from": few, "to": many, "kb_per_further_image": more})
    return found


def main() -> int:
    """Print and write the figures; 1 when memory grows more than claimed."""
    asked = parser(__doc__)
    asked.add_argument("--counts", type=int, nargs="+", default=[1000, 4000, 16000], help="numbers of images")
    asked.add_argument("--backbone", default="resnet18")
    asked.add_argument("--size", type=int, default=64)
    asked.add_argument("--threads", type=int, default=cores())
    asked.add_argument("--commands", nargs="+", help="only these [default: all]; all need ingest, predict also needs finetune, probe")
    smallest = {"counts": [24, 48], "backbone": "test_resnet", "size": 32, "threads": 1}
    args = arguments(asked, {**smallest, "commands": ["ingest", "finetune, probe", "predict"]})
    with described() as result:
        rows = [row for count in args.counts for row in measure(count, args)]
        result["peaks"], result["growth"] = rows, growth(rows)
        result["most_kb_per_further_image"] = max((row["kb_per_further_image"] for row in result["growth"]), default=None)
    finish(result, args)
    return int(not args.quick and (result["most_kb_per_further_image"] or 0) > MOST_KB)


if __name__ == "__main__":
    raise SystemExit(main())
