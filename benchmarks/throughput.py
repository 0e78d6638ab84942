"""How much of the network's own speed training reaches.

Runs the same step two ways that take turns in one process: on ready tensors in memory, and through the whole path (cache, views, loader,
Lightning, history). Prints the images per second of both and the median ratio of neighbouring turns (1 means that the data path costs
nothing), how far the turns on ready tensors lie apart as a measure of the machine's noise, and the peak memory of the process. For
pretraining there is also the recipe's mean: four fifths of the steps on smaller views.

    python benchmarks/throughput.py --images ../shared/data/skin/ham10000/images
    python benchmarks/throughput.py --all --json throughput.json
    python benchmarks/throughput.py --quick
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import isograft
from harness import IMAGES, arguments, described, finish, parser
from isograft.data.cache import ImageCache
from isograft.data.loader import ViewLoader, ViewSpec
from isograft.data.manifest import Manifest
from isograft.data.policy import POLICIES
from isograft.data.preprocess import Preprocess
from isograft.networks.backbones import build_backbone
from isograft.networks.heads import Classifier, build_head
from isograft.plan import Plan
from isograft.ssl.method import build_method
from isograft.train.callbacks import History
from isograft.train.convolutions import apply_convolutions, decide_convolutions
from isograft.train.engine import training_device
from isograft.train.finetune_module import FinetuneModule
from isograft.train.module import TrainingModule
from isograft.train.precision import decide_precision
from isograft.train.pretrain_module import PretrainModule
from isograft.train.pretrain_plan import small_view
from isograft.train.views import plan_rendering, rendering_options
from machine import peak_gb
from training_pass import step_ends, wait

NETWORKS = (("resnet18", 64, 64), ("resnet50", 224, 8), ("alzubaidi_dcnn", 224, 4), ("vit_tiny_patch16_224", 224, 8))
CLIP = 5.0
CLASSES = 7
VERBS = ("pretrain", "finetune")
QUICK = {"backbone": "test_resnet", "size": 32, "batch_size": 8, "steps": 2, "turns": 1, "seconds": 0.0, "limit": 40}


@dataclass(frozen=True)
class Case:
    """What is trained, and on what."""

    verb: str
    backbone: str
    size: int
    batch: int
    steps: int
    threads: int
    folder: Path
    manifest: Manifest

    def preprocess(self) -> Preprocess:
        return Preprocess(image_size=self.size, working_size=round(1.5 * self.size))

    def images(self) -> ImageCache:
        return ImageCache.build(self.manifest, self.preprocess(), self.folder / "cache", self.threads)


def planned(case: Case) -> Plan:
    """A plan with what the modules read."""
    plan = Plan()
    for name, value in {
        "lr": 1e-4, "new_layer_lr": 1e-4, "head_lr": 1e-4, "weight_decay": 0.05, "layer_decay": 1.0, "total_steps": case.steps + 1,
        "warmup": 0.1, "schedule": "cosine", "frozen_bn": case.verb == "finetune", "steps_per_epoch": len(case.manifest) // case.batch,
        "history_every": 1, "epochs": 1, "batch_size": case.batch, "image_size": case.size, "optimizer": "adamw",
    }.items():  # fmt: skip
        plan.decide(name, value, "benchmark")
    return plan


def trained(case: Case, plan: Plan) -> tuple[torch.nn.Module, list[ViewSpec]]:
    """What is trained and the views it wants; arithmetic, convolutions and place of rendering are decided as the verbs do."""
    device = training_device()
    backbone = build_backbone(case.backbone, {}, case.size)
    network: torch.nn.Module
    if case.verb == "pretrain":
        network = build_method("simclr", backbone, int(backbone.num_features))  # type: ignore[arg-type]
        specs = [ViewSpec(2, case.size, POLICIES["dermoscopy"])]
    else:
        network = Classifier(backbone, build_head("linear", int(backbone.num_features), CLASSES))  # type: ignore[arg-type]
        specs = [ViewSpec(1, case.size, POLICIES["dermoscopy"])]
    decide_precision(plan, "auto", backbone, case.size, case.size, device)
    decide_convolutions(plan, backbone, device)
    apply_convolutions(plan, backbone)
    plan_rendering(plan, device)
    return network.to(memory_format=torch.channels_last), specs


def module_of(case: Case, network: Any, plan: Plan, history: History) -> TrainingModule:
    if case.verb == "pretrain":
        return PretrainModule(network, plan, case.preprocess(), history, 0)
    return FinetuneModule(network, plan, case.preprocess(), None, history, 0)


def ready_rate(case: Case, network: Any, plan: Plan, specs: list[ViewSpec]) -> float:
    """Images per second of the bare step on uint8 views that are on the device already."""
    device, preprocess = training_device(), case.preprocess()
    network.to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    shape = (case.batch, case.size, case.size, 3)
    views = [torch.randint(0, 256, shape, dtype=torch.uint8, device=device) for _ in range(specs[0].count)]
    labels = torch.randint(0, CLASSES, (case.batch,), device=device)
    if plan["frozen_bn"]:
        network.backbone.eval()

    def loss() -> torch.Tensor:
        seen = [preprocess.normalise(view) for view in views]
        if case.verb == "pretrain":
            return network(seen).loss  # type: ignore[no-any-return]
        return torch.nn.functional.cross_entropy(network(seen[0]), labels)

    ends = []
    for _ in range(case.steps + 1):
        with torch.autocast(device.type, torch.bfloat16, enabled=plan["precision"] == "bf16"):
            value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        wait()
        ends.append(time.perf_counter())
    return case.batch / float(np.median(np.diff(ends)))


def pipeline_rate(case: Case, network: Any, plan: Plan, specs: list[ViewSpec], images: ImageCache) -> float:
    """Images per second through the whole path."""
    labels = np.arange(len(images)) % CLASSES
    options = rendering_options(plan)
    loader = ViewLoader(images, case.manifest.ids(), specs, case.batch, 0, labels=labels, threads=case.threads, **options)
    decided = {decision.name: decision.value for decision in plan}
    ends = step_ends(lambda plan, history: module_of(case, network, plan, history), decided, loader, specs, plan["precision"], CLIP)
    return case.batch / float(np.median(np.diff(ends)))


def measure(case: Case, turns: int, seconds: float) -> dict[str, Any]:
    """Both ways in turns."""
    plan = planned(case)
    network, specs = trained(case, plan)
    images = case.images()
    ready: list[float] = []
    whole: list[float] = []
    began = time.perf_counter()
    while len(ready) < turns or (time.perf_counter() - began < seconds and len(ready) < 3 * turns):  # quick steps vary more
        ready.append(ready_rate(case, network, plan, specs))
        whole.append(pipeline_rate(case, network, plan, specs, images))
    decisions = {entry.name: f"{entry.value}: {entry.reason}" for entry in plan if entry.name in {"precision", "convolutions", "views_on"}}
    return {
        "verb": case.verb,
        "backbone": case.backbone,
        "size": case.size,
        "batch": case.batch,
        **decisions,
        "threads": case.threads,
        "ready_images_per_s": round(statistics.median(ready), 2),
        "pipeline_images_per_s": round(statistics.median(whole), 2),
        "ratio": round(statistics.median(one / other for one, other in zip(whole, ready, strict=True)), 3),
        "noise": round((max(ready) - min(ready)) / statistics.median(ready), 3),
        "peak_memory_gb": round(peak_gb(), 2),
    }


def with_recipe(row: dict[str, Any], case_of: Callable[[int], Case], turns: int) -> dict[str, Any]:
    """Add the mean over the default recipe's steps, four fifths of which see smaller views."""
    small = small_view(row["size"])
    if row["verb"] != "pretrain" or row["backbone"].startswith("vit") or small >= row["size"]:
        return row
    less = measure(case_of(small), turns, 0.0)["pipeline_images_per_s"]
    return {**row, "small_view_images_per_s": less, "recipe_images_per_s": round(1 / (0.8 / less + 0.2 / row["pipeline_images_per_s"]), 2)}


def options() -> argparse.ArgumentParser:
    made = parser(__doc__)
    made.add_argument("--images", type=Path, default=IMAGES)
    made.add_argument("--all", action="store_true", help="pretraining and fine-tuning of all four networks")
    made.add_argument("--verb", choices=["pretrain", "finetune"], default="pretrain")
    made.add_argument("--backbone", default="resnet18")
    made.add_argument("--size", type=int, default=64)
    made.add_argument("--batch-size", type=int, default=64)
    made.add_argument("--steps", type=int, default=10, help="steps of every turn, after one to warm up")
    made.add_argument("--turns", type=int, default=3)
    made.add_argument("--seconds", type=float, default=75.0, help="go on with turns for so long, for three times as many at most")
    made.add_argument("--limit", type=int, default=2000, help="images to use")
    made.add_argument("--threads", type=int, default=torch.get_num_threads(), help="for reading and rendering")
    return made


def main() -> None:
    args = arguments(options(), QUICK)
    wanted = [(args.verb, args.backbone, args.size, args.batch_size)]
    if args.quick:
        wanted = [(verb, *wanted[0][1:]) for verb in VERBS]
    elif args.all:
        wanted = [(verb, *network) for network in NETWORKS for verb in VERBS]
    with described() as result, tempfile.TemporaryDirectory() as folder:
        result["device"] = training_device().type
        manifest = isograft.ingest(args.images, out=Path(folder) / "pool.parquet").usable()
        manifest = manifest.select(np.arange(len(manifest)) < args.limit)
        rows = []
        for verb, backbone, size, batch in wanted:

            def case_of(side: int, verb: str = verb, backbone: str = backbone, batch: int = batch) -> Case:
                return Case(verb, backbone, side, batch, args.steps, args.threads, Path(folder), manifest)

            rows.append(with_recipe(measure(case_of(size), args.turns, args.seconds), case_of, args.turns))
        result["cases"] = rows
        result["least_ratio"] = {result["device"]: min(row["ratio"] for row in rows)}
    finish(result, args)


if __name__ == "__main__":
    main()
