"""How much of the network's own speed pretraining reaches.

Runs the same SimCLR step twice in one process: on ready tensors in memory, and through the whole path (cache, views, loader, Lightning,
history). Prints the images per second of both and their ratio (1 means that the data path costs nothing), the shares at either
end of the ready-tensor runs as a measure of the machine's noise, and the peak memory of the process.

    python benchmarks/throughput.py --images ../shared/data/skin/ham10000/images
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import isograft
from isograft.data.cache import ImageCache
from isograft.data.loader import ViewLoader
from isograft.data.policy import POLICIES
from isograft.data.preprocess import Preprocess
from isograft.networks.backbones import build_backbone
from isograft.ssl.method import build_method
from isograft.train.precision import choose_precision
from isograft.train.pretrain_module import PretrainModule
from training_pass import step_ends

IMAGES = Path(__file__).resolve().parents[2] / "shared/data/skin/ham10000/images"


def ready_rate(method: torch.nn.Module, preprocess: Preprocess, batch: int, size: int, steps: int, precision: str) -> float:
    """Images per second of the bare step on uint8 views that are in memory already."""
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-4)
    views = [torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8) for _ in range(2)]
    ends = []
    for _ in range(steps + 1):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = method([preprocess.normalise(view) for view in views]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()
        ends.append(time.perf_counter())
    return batch / float(np.median(np.diff(ends)))


def pipeline_rate(method: Any, preprocess: Preprocess, images: ImageCache, ids: Any, args: argparse.Namespace, precision: str) -> float:
    """Images per second through the whole path."""
    decided = {
        "lr": 1e-4, "new_layer_lr": 1e-4, "weight_decay": 0.05, "layer_decay": 1.0, "total_steps": args.steps + 1, "warmup": 0.1,
        "schedule": "cosine", "frozen_bn": False, "steps_per_epoch": len(ids) // args.batch_size, "history_every": 1,
        "epochs": 1, "batch_size": args.batch_size,
    }  # fmt: skip
    specs = method.view_specs(args.size, POLICIES["dermoscopy"])
    loader = ViewLoader(images, ids, specs, args.batch_size, 0, threads=args.threads)
    ends = step_ends(
        lambda plan, history: PretrainModule(method, plan, preprocess, history, 0), decided, loader, specs, precision, clip=5.0
    )
    return args.batch_size / float(np.median(np.diff(ends)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=IMAGES)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--limit", type=int, default=2000, help="images to use")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        manifest = isograft.ingest(args.images, out=Path(folder) / "pool.parquet").usable()
        manifest = manifest.select(np.arange(len(manifest)) < args.limit)
        preprocess = Preprocess(image_size=args.size, working_size=round(1.5 * args.size))
        images = ImageCache.build(manifest, preprocess, Path(folder) / "cache", args.threads)
        backbone = build_backbone(args.backbone, {}, args.size)
        precision, reason = choose_precision(backbone, args.size, torch.device("cpu"))
        method = build_method("simclr", backbone, backbone.num_features).to(memory_format=torch.channels_last)
        before = ready_rate(method, preprocess, args.batch_size, args.size, args.steps, precision)
        whole = pipeline_rate(method, preprocess, images, manifest.ids(), args, precision)
        after = ready_rate(method, preprocess, args.batch_size, args.size, args.steps, precision)
    ready = (before + after) / 2
    result = {
        "backbone": args.backbone,
        "size": args.size,
        "batch": args.batch_size,
        "precision": f"{precision}: {reason}",
        "threads": args.threads,
        "ready_images_per_s": round(ready, 1),
        "pipeline_images_per_s": round(whole, 1),
        "ratio": round(whole / ready, 3),
        "noise": round(abs(before - after) / ready, 3),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }
    for name, value in result.items():
        print(f"{name:<24}{value}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
