"""Fine-tuning against the loop most people would write: PIL, timm's transforms, a DataLoader with workers, the same network in torch.

Same images, network, size, batch, threads, optimizer and precision. The ways take turns, one pass over the images each: the bare
step on ready tensors, the whole path of `isograft finetune` (cache, views, Lightning, history), and the plain loop. The rate of a
pass is that of its steps after the first, so that starting threads or workers counts for neither. What ours needs once before the
first pass, ingest and the cache, is given in seconds, and with it how many times as fast 1, 10 and 40 passes are in all. Ours also
turns every view by any angle, which timm's transforms do not.

Claim: in each precision at least as fast as the plain loop, and at least 0.9 of the bare step.

    python benchmarks/peers_finetune.py [--images FOLDER] [--backbone resnet18] [--size 64]
"""

from __future__ import annotations

import argparse
import functools
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import isograft
from harness import IMAGES, arguments, described, finish, parser, significant
from isograft.data.cache import ImageCache
from isograft.data.loader import ViewLoader, ViewSpec
from isograft.data.policy import POLICIES
from isograft.data.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from isograft.networks.backbones import build_backbone
from isograft.networks.heads import Classifier, build_head
from isograft.train.engine import training_device
from isograft.train.finetune_module import FinetuneModule
from machine import cores
from material import files_of, photographs, subset
from training_pass import step_ends

CLASSES = 5
LR = 1e-4
OURS, LOOP, BARE = "isograft", "plain loop", "bare step"


def rate_of(ends: Sequence[float], batch: int) -> float:
    """Images per second of the steps after the first."""
    return batch * (len(ends) - 1) / (ends[-1] - ends[0])


def has_bf16() -> bool:
    """Whether the device computes in bf16 by itself."""
    if training_device().type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.backends.cpu.get_cpu_capability() not in {"DEFAULT", "AVX2", "NO AVX"}


def half(precision: str) -> Any:
    device = training_device().type
    return torch.autocast(device, torch.bfloat16) if precision == "bf16" else nullcontext()


def classifier(args: argparse.Namespace) -> Classifier:
    torch.manual_seed(0)
    backbone = build_backbone(args.backbone, {}, args.size).to(memory_format=torch.channels_last)
    return Classifier(backbone, build_head("linear", backbone.num_features, CLASSES)).to(training_device())


def train(network: torch.nn.Module, batches: Any, args: argparse.Namespace, precision: str) -> float:
    """Train on batches of (float images, classes); images per second."""
    device, loss_of = training_device(), torch.nn.CrossEntropyLoss()
    optimizer, ends = torch.optim.AdamW(network.parameters(), lr=LR), []
    for images, classes in batches:
        with half(precision):
            scores = network.train()(images.to(device, non_blocking=True).to(memory_format=torch.channels_last))
        loss = loss_of(scores.float(), classes.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        float(loss.detach())  # waits for a GPU, as our history does
        ends.append(time.perf_counter())
    return rate_of(ends, args.batch_size)


def bare(args: argparse.Namespace, count: int, precision: str) -> float:
    """The same steps on tensors that are ready."""
    images = torch.randn(args.batch_size, 3, args.size, args.size)
    classes = torch.arange(args.batch_size) % CLASSES
    return train(classifier(args), ((images, classes) for _ in range(count // args.batch_size)), args, precision)


class Files(Dataset[Any]):
    """Image files through timm's training transforms."""

    def __init__(self, files: Sequence[Path], size: int) -> None:
        self.files = files
        self.change = timm.data.create_transform(
            size, is_training=True, scale=(0.5, 1.0), hflip=0.5, vflip=0.5, color_jitter=0.15, auto_augment=None, re_prob=0.0
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> Any:
        with Image.open(self.files[row]) as image:
            return self.change(image.convert("RGB")), row % CLASSES


def plain_loop(files: Sequence[Path], args: argparse.Namespace, precision: str) -> float:
    loader = DataLoader(Files(files, args.size), batch_size=args.batch_size, shuffle=True, drop_last=True, num_workers=args.threads)
    return train(classifier(args), loader, args, precision)


def ours(images: ImageCache, ids: Any, args: argparse.Namespace, precision: str) -> float:
    """One pass of the path that `isograft finetune` takes."""
    steps = len(images) // args.batch_size
    decided = {
        "lr": LR, "head_lr": LR, "weight_decay": 0.05, "layer_decay": 1.0, "total_steps": steps, "warmup": 0.1, "schedule": "cosine",
        "frozen_bn": False, "steps_per_epoch": steps, "epochs": 1, "batch_size": args.batch_size, "optimizer": "adamw",
    }  # fmt: skip
    specs = [ViewSpec(1, args.size, POLICIES["dermoscopy"].model_copy(update={"crop": (0.5, 1.0)}))]
    loader = ViewLoader(images, ids, specs, args.batch_size, 0, labels=np.arange(len(images)) % CLASSES, threads=args.threads)
    preprocess = Preprocess(image_size=args.size, working_size=round(1.5 * args.size), mean=IMAGENET_MEAN, std=IMAGENET_STD)
    ends = step_ends(
        lambda plan, history: FinetuneModule(classifier(args), plan, preprocess, None, history, 0), decided, loader, specs, precision
    )
    return rate_of(ends, args.batch_size)


def measure(ways: dict[tuple[str, str], Callable[[], float]], rounds: int) -> dict[tuple[str, str], list[float]]:
    """Rates of every way by round, taking turns; a first round does not count."""
    rates: dict[tuple[str, str], list[float]] = {way: [] for way in ways}
    for attempt in range(rounds + 1):
        for way, run in ways.items():
            rate = run()
            if attempt:
                rates[way].append(rate)
    return rates


def told(rates: dict[tuple[str, str], list[float]]) -> list[dict[str, Any]]:
    """A row per way and precision: the median, the range, and the medians of the ratios of the same round."""
    rows = []
    for (way, precision), found in rates.items():
        row = {"precision": precision, "way": way, "images_per_s": significant(float(np.median(found)))}
        row |= {"lowest": significant(min(found)), "highest": significant(max(found))}
        for other in (BARE, LOOP):
            row[f"times_{other}"] = significant(float(np.median(np.array(found) / np.array(rates[other, precision]))))
        rows.append(row)
    return rows


def in_all(rows: Sequence[dict[str, Any]], images: int, before: float) -> list[dict[str, Any]]:
    """How many times as fast ours is over some passes, with what it needs before the first."""
    rate = {(row["way"], row["precision"]): row["images_per_s"] for row in rows}
    found = []
    for precision, passes in itertools.product([key[1] for key in rate if key[0] == LOOP], (1, 10, 40)):
        seconds = before + passes * images / rate[OURS, precision], passes * images / rate[LOOP, precision]
        found.append({"precision": precision, "passes": passes, "times_plain_loop": significant(seconds[1] / seconds[0])})
    return found


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("--images", type=Path, default=IMAGES)
    asked.add_argument("--limit", type=int, default=2048, help="images to use")
    asked.add_argument("--backbone", default="resnet18")
    asked.add_argument("--size", type=int, default=64)
    asked.add_argument("--batch-size", type=int, default=32)
    asked.add_argument("--threads", type=int, default=cores(), help="threads of arithmetic, and rendering threads or workers")
    asked.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"], help="[default: fp32, and bf16 where it is not emulated]")
    asked.add_argument("--rounds", type=int, default=3)
    smallest = {"images": None, "limit": 24, "backbone": "test_resnet", "size": 32, "batch_size": 8, "rounds": 1, "threads": 1}
    args = arguments(asked, {**smallest, "precisions": ["fp32"]})
    torch.set_num_threads(args.threads)
    with described() as result, tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        source = args.images or photographs(folder / "drawn", args.limit)
        chosen = subset(source, folder / "images", args.limit)
        began = time.perf_counter()
        manifest = isograft.ingest(chosen, out=folder / "images.parquet").usable()
        preprocess = Preprocess(image_size=args.size, working_size=round(1.5 * args.size))
        images = ImageCache.build(manifest, preprocess, folder / "cache", args.threads)
        before = time.perf_counter() - began
        files = files_of(chosen)
        ways: dict[tuple[str, str], Callable[[], float]] = {}
        precisions = args.precisions or ["fp32", *(["bf16"] if has_bf16() else [])]
        if not args.precisions and len(precisions) == 1:
            result["skipped"] = [{"what": "bf16", "why": "this processor has no bf16 instructions, and emulating them is far slower"}]
        for precision in precisions:
            ways[BARE, precision] = functools.partial(bare, args, len(files), precision)
            ways[OURS, precision] = functools.partial(ours, images, manifest.ids(), args, precision)
            ways[LOOP, precision] = functools.partial(plain_loop, files, args, precision)
        result["setting"] = {name: getattr(args, name) for name in ("backbone", "size", "batch_size", "threads", "rounds")}
        result["images"], result["seconds_before_the_first_pass"] = len(files), significant(before)
        result["rates"] = told(measure(ways, args.rounds))
        result["in_all"] = in_all(result["rates"], len(files), before)
        result["times_plain_loop"] = {row["precision"]: row[f"times_{LOOP}"] for row in result["rates"] if row["way"] == OURS}
        result["times_bare_step"] = {row["precision"]: row[f"times_{BARE}"] for row in result["rates"] if row["way"] == OURS}
    finish(result, args)


if __name__ == "__main__":
    main()
