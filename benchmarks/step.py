"""What bounds a training step: a network's arithmetic, the fraction of this machine's matrix peak it reaches, and where the time goes.

For each network: images per second of the bare step (forward, backward, clipping, AdamW) by the library's convolutions and by matrix
products (`networks/matrix_convolution.py`), the two taking turns in one process; its nominal arithmetic, counted over the library's
convolutions; that arithmetic over the time and over the speed of a large matrix product, measured between the turns; and the share
of each kind of operation. On a GPU only the library's kernels run.

    python benchmarks/step.py --json step.json
    python benchmarks/step.py --quick
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from isograft.networks.backbones import build_backbone
from isograft.networks.matrix_convolution import use_matrix_products

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CASES = (("resnet18", 64, 128), ("resnet18", 40, 128), ("resnet50", 224, 8), ("alzubaidi_dcnn", 224, 4), ("vit_tiny_patch16_224", 224, 16))
QUICK = (("test_resnet", 32, 8), ("test_vit", 32, 8))
PARTS = {
    "convolution_backward": "gradients of convolutions, library",
    "mkldnn_convolution": "convolutions, library",
    "cudnn_convolution": "convolutions, library",
    "addmm": "matrix products",
    "mm": "matrix products",
    "bmm": "matrix products",
    "scaled_dot_product": "attention",
    "batch_norm": "normalisation",
    "layer_norm": "normalisation",
    "_fused_adamw": "optimizer",
    "copy_": "copies",
    "constant_pad": "copies",
    "fill_": "copies",
    "cat": "copies",
}
"""Operation by a part of its name; the first that fits counts, everything else is elementwise and the rest."""


def timed(once: Callable[[], object]) -> float:
    """Seconds of one call, a GPU's work included."""
    began = time.perf_counter()
    once()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def matrix_peak(dtype: torch.dtype, side: int) -> float:
    """Multiplications and additions per second of a large matrix product, the best of eight."""
    left, right = torch.randn(side, side, device=DEVICE, dtype=dtype), torch.randn(side, side, device=DEVICE, dtype=dtype)
    return 2 * side**3 / min(timed(lambda: left @ right) for _ in range(8))


def stepper(network: torch.nn.Module, images: torch.Tensor, precision: str) -> Callable[[], None]:
    """A whole step of a network on images that are in memory."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = network(images).float().square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def shares(step: Callable[[], None]) -> dict[str, float]:
    """Share of the time of a step by kind of operation."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if DEVICE.type == "cuda" else [])]
    with profile(activities=activities) as record:
        timed(step)
    seconds: Counter[str] = Counter()
    for row in record.key_averages():
        part = next((part for name, part in PARTS.items() if name in row.key), "elementwise and the rest")
        seconds[part] += row.self_device_time_total if DEVICE.type == "cuda" else row.self_cpu_time_total
    whole = sum(seconds.values())
    return {part: round(spent / whole, 3) for part, spent in seconds.most_common()}


def measure(name: str, size: int, batch: int, turns: int, precision: str, peak_side: int) -> dict[str, Any]:
    """Everything about one network."""
    library = build_backbone(name, {}, size).to(DEVICE, memory_format=torch.channels_last).train()
    images = torch.randn(batch, 3, size, size, device=DEVICE).contiguous(memory_format=torch.channels_last)
    with FlopCounterMode(display=False) as counter:
        library(images).sum().backward()
    library.zero_grad()
    networks = {"library": library}
    products = copy.deepcopy(library)
    if DEVICE.type == "cpu" and use_matrix_products(products):
        networks["products"] = products
    steps = {kind: stepper(network, images, precision) for kind, network in networks.items()}
    seconds: dict[str, list[float]] = {kind: [] for kind in steps}
    dtype, peaks = torch.bfloat16 if precision == "bf16" else torch.float32, []
    for turn in range(turns + 1):
        for kind, step in steps.items():
            spent = timed(step)
            if turn:  # the first compiles kernels
                seconds[kind].append(spent)
        peaks.append(matrix_peak(dtype, peak_side))
    flops, peak = counter.get_total_flops(), statistics.median(peaks)
    row: dict[str, Any] = {"network": name, "size": size, "batch": batch, "precision": precision}
    row |= {"gflop_per_image": round(flops / batch / 1e9, 3), "matrix_peak_gflops": round(peak / 1e9, 1)}
    for kind, spent in seconds.items():
        median = statistics.median(spent)
        figures = {"images_per_s": round(batch / median, 2), "of_matrix_peak": round(flops / median / peak, 3)}
        row[kind] = {**figures, "shares": shares(steps[kind])}
    if "products" in seconds:
        row["products_over_library"] = round(
            statistics.median(one / other for one, other in zip(seconds["library"], seconds["products"], strict=True)), 3
        )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", help="only these")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16" if DEVICE.type == "cuda" else "fp32")
    parser.add_argument("--quick", action="store_true", help="the smallest size, to see that it runs")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    device = torch.cuda.get_device_name() if DEVICE.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    machine = f"{platform.machine()} {device}, {torch.get_num_threads()} threads, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}"
    result: dict[str, Any] = {"machine": machine, "networks": []}
    print(machine)
    for name, size, batch in QUICK if args.quick else CASES:
        if args.networks and name not in args.networks:
            continue
        row = measure(name, size, batch, 1 if args.quick else args.turns, args.precision, 128 if args.quick else 1536)
        result["networks"].append(row)
        print(json.dumps(row, indent=1), flush=True)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
