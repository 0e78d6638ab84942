"""The four parallel convolutions of the paper's blocks in as few kernels as pays: one by one, merged, or grouped.

Forward and backward of each block of the network at 224 px, in turns. Merged: one convolution whose 1x1, 3x3 and 5x5 filters are padded
with zeros to 7x7, which is 2.3 times the arithmetic in one kernel. In two: 1x1 padded into 3x3, 5x5 into 7x7. Grouped: the same padded
filters in one convolution of four groups on the maps four times over. All give the same maps.

    python benchmarks/parallel_convolutions.py [--precision fp32 bf16] [--json convolutions.json]
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from harness import arguments, described, finish, parser, significant
from isograft.networks.alzubaidi import KERNELS, PAPER_BLOCKS, STEM
from isograft.train.engine import training_device
from training_pass import wait

QUICK = {"size": 32, "width": 4, "batch": 2, "turns": 1, "precision": ["fp32"]}
Way = Callable[[Tensor, list[Tensor], int], Tensor]


def padded(weight: Tensor, kernel: int) -> Tensor:
    """A filter (F, C, k, k) with zeros around it, (F, C, kernel, kernel)."""
    around = (kernel - weight.shape[-1]) // 2
    return F.pad(weight, (around,) * 4)


def separate(maps: Tensor, weights: list[Tensor], stride: int) -> Tensor:
    return torch.cat([F.conv2d(maps, weight, None, stride, weight.shape[-1] // 2) for weight in weights], 1)


def merged(maps: Tensor, weights: list[Tensor], stride: int) -> Tensor:
    largest = weights[-1].shape[-1]
    return F.conv2d(maps, torch.cat([padded(weight, largest) for weight in weights]), None, stride, largest // 2)


def in_two(maps: Tensor, weights: list[Tensor], stride: int) -> Tensor:
    return torch.cat([merged(maps, weights[:2], stride), merged(maps, weights[2:], stride)], 1)


def grouped(maps: Tensor, weights: list[Tensor], stride: int) -> Tensor:
    largest = weights[-1].shape[-1]
    every = torch.cat([padded(weight, largest) for weight in weights])
    return F.conv2d(maps.repeat(1, len(weights), 1, 1), every, None, stride, largest // 2, groups=len(weights))


WAYS: dict[str, Way] = {"one by one": separate, "merged": merged, "in two": in_two, "grouped": grouped}


def inputs(width: int, size: int) -> list[tuple[int, int, int, int]]:
    """Channels and side of the map that enters each block, its filters and its stride."""
    channels, side, found = width, -(-size // 2), []
    for block in PAPER_BLOCKS:
        filters = block.filters * width
        found.append((channels, side, filters, block.stride))
        channels = len(KERNELS) * filters + block.identity * channels + len(block.links) * width
        side = -(-side // block.stride)
    return found


def seconds_of(way: Way, maps: Tensor, weights: list[Tensor], stride: int, precision: str) -> float:
    """Time of one pass forward and backward."""
    began = time.perf_counter()
    with torch.autocast(maps.device.type, torch.bfloat16, enabled=precision == "bf16"):
        out = way(maps, weights, stride)
    out.sum().backward()
    wait()
    return time.perf_counter() - began


def difference(maps: Tensor, weights: list[Tensor], stride: int) -> float:
    """The largest difference of any way's maps from those of the convolutions one by one, relative to the largest value."""
    with torch.no_grad():
        expected = separate(maps, weights, stride)
        return max(float((way(maps, weights, stride) - expected).abs().max() / expected.abs().max()) for way in WAYS.values())


def measure(number: int, shape: tuple[int, int, int, int], args: Any, precision: str) -> dict[str, Any]:
    """One row: a block, every way in turns after one round that compiles kernels."""
    channels, side, filters, stride = shape
    device = training_device()
    maps = torch.randn(args.batch, channels, side, side, device=device).contiguous(memory_format=torch.channels_last).requires_grad_()
    weights = [
        torch.randn(filters, channels, kernel, kernel, device=device).contiguous(memory_format=torch.channels_last).requires_grad_()
        for kernel in KERNELS
    ]
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for turn in range(args.turns + 1):
        for name, way in WAYS.items():
            spent = seconds_of(way, maps, weights, stride, precision)
            if turn:
                seconds[name].append(spent)
    base = seconds["one by one"]
    ratios = {name: statistics.median(a / b for a, b in zip(spent, base, strict=True)) for name, spent in seconds.items()}
    row = {"block": number, "maps": f"{channels} x {side} x {side}", "filters": filters, "stride": stride, "precision": precision}
    return {
        **row,
        "one_by_one_ms": significant(1000 * statistics.median(base)),
        **{f"{name}, times": significant(ratio) for name, ratio in ratios.items() if name != "one by one"},
        "largest_difference": significant(difference(maps, weights, stride)),
        "seconds": {name: statistics.median(spent) for name, spent in seconds.items()},
    }


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("--size", type=int, default=224, help="side of the image in pixels")
    asked.add_argument("--width", type=int, default=32, help="filters of the first convolution")
    asked.add_argument("--batch", type=int, default=2)
    asked.add_argument("--turns", type=int, default=2)
    asked.add_argument("--precision", nargs="*", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    args = arguments(asked, QUICK)
    with described() as result:
        result |= {"device": training_device().type, "computes_with": torch.backends.cpu.get_cpu_capability(), "batch": args.batch}
        shapes = list(enumerate(inputs(args.width, args.size), STEM + 1))
        rows = [measure(number, shape, args, precision) for precision in args.precision for number, shape in shapes]
        whole: dict[str, dict[str, float]] = {}
        for precision in args.precision:
            sums = {name: sum(row["seconds"][name] for row in rows if row["precision"] == precision) for name in WAYS}
            whole[precision] = {name: significant(spent / sums["one by one"]) for name, spent in sums.items()}
        result["blocks"] = [{name: value for name, value in row.items() if name != "seconds"} for row in rows]
        result["time_of_all_blocks"] = whole
        result["largest_difference"] = max(row["largest_difference"] for row in rows)
    finish(result, args)


if __name__ == "__main__":
    main()
