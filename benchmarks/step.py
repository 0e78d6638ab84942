"""What bounds a training step: a network's arithmetic, the fraction of this machine's matrix peak it reaches, and where the time goes.

For each network a bare step on images in memory (forward, backward, clipping, AdamW) in several ways that take turns: by the library's
convolutions, by dense matrices on small maps and by matrix products (`networks/matrix_convolution.py`), in fp32 and in bf16, and with
AdamW in parts (not fused). Rates are medians, and ratios medians of the ratios of one round. The nominal arithmetic is counted over the
library's convolutions; set against the time and the speed of a large matrix product of the same type, measured beside it, it is the
fraction of the peak. On a GPU only the library's kernels run. `--compile` adds torch.compile, with the seconds until its first step
is done, which on a CPU are minutes. `--cpu-time` counts the process's own time, which other work on the machine
disturbs less.

    python benchmarks/step.py --json step.json
    OMP_NUM_THREADS=1 python benchmarks/step.py --networks resnet18 --cpu-time
"""

from __future__ import annotations

import copy
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from harness import arguments, described, finish, parser, significant
from isograft.networks.backbones import build_backbone
from isograft.networks.matrix_convolution import has_choice, use_kernels
from isograft.train.engine import training_device
from training_pass import wait

CASES = {
    "resnet18": ((64, 64), (40, 64)),
    "resnet50": ((224, 8),),
    "alzubaidi_dcnn": ((224, 4),),
    "vit_tiny_patch16_224": ((224, 16),),
    "test_resnet": ((32, 8),),
    "test_vit": ((32, 8),),
}
"""Side in pixels and batch of every network."""
QUICK = {"networks": ["test_resnet", "test_vit"], "turns": 1, "peak_side": 128}
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
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

Step = Callable[[], None]


def stepper(network: torch.nn.Module, images: torch.Tensor, precision: str, fused: bool = True) -> Step:
    """A whole step of a network on images that are in memory."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=fused)

    def step() -> None:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = network(images).float().square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()
        wait()

    return step


def ways(library: torch.nn.Module, images: torch.Tensor, precisions: list[str], compiled: bool) -> Iterator[tuple[str, str, Step]]:
    """Kernels, precision, and the step by them."""
    for precision in precisions:
        yield "library", precision, stepper(copy.deepcopy(library), images, precision)
        if compiled:
            network = copy.deepcopy(library)
            network.compile()
            yield "torch.compile", precision, stepper(network, images, precision)
        for kernels in ("dense", "products") if images.device.type == "cpu" and has_choice(library) else ():
            network = copy.deepcopy(library)
            use_kernels(network, kernels)
            yield kernels, precision, stepper(network, images, precision)
    yield "library, AdamW in parts", precisions[0], stepper(copy.deepcopy(library), images, precisions[0], fused=False)


def matrix_product(side: int, precision: str) -> Step:
    """A product of two large matrices."""
    left, right = (torch.randn(side, side, device=training_device(), dtype=TYPES[precision]) for _ in range(2))

    def product() -> None:
        left @ right
        wait()

    return product


def shares(step: Step) -> dict[str, float]:
    """Share of the time of a step by kind of operation."""
    gpu = training_device().type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]) as record:
        step()
    seconds: Counter[str] = Counter()
    for row in record.key_averages():
        part = next((part for name, part in PARTS.items() if name in row.key), "elementwise and the rest")
        seconds[part] += row.self_device_time_total if gpu else row.self_cpu_time_total
    whole = sum(seconds.values())
    return {part: round(spent / whole, 3) for part, spent in seconds.most_common()}


def seconds_in_turns(steps: dict[str, Step], turns: int, clock: Callable[[], float]) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Seconds of every step in a first round, which compiles kernels and does not count, and in every round after it."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(turns + 1):
        for name, step in steps.items():
            began = clock()
            step()
            seconds[name].append(clock() - began)
    return {name: spent[0] for name, spent in seconds.items()}, {name: spent[1:] for name, spent in seconds.items()}


def measure(name: str, size: int, batch: int, args: Any) -> tuple[list[dict[str, Any]], dict[str, dict[str, float]]]:
    """A row and the shares of every way to train one network."""
    device = training_device()
    library = build_backbone(name, {}, size).to(device, memory_format=torch.channels_last).train()
    images = torch.randn(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    with FlopCounterMode(display=False) as counter:
        library(images).sum().backward()
    library.zero_grad()
    found = list(ways(library, images, args.precision, args.compile))
    steps = {f"{kernels}, {precision}": step for kernels, precision, step in found}
    products = {precision: matrix_product(args.peak_side, precision) for precision in args.precision}
    first_steps, seconds = seconds_in_turns({**steps, **products}, args.turns, time.process_time if args.cpu_time else time.perf_counter)
    rows, first = [], seconds[next(iter(steps))]
    for (kernels, precision, _), way in zip(found, steps, strict=True):
        spent = seconds[way]
        step, peak = statistics.median(spent), 2 * args.peak_side**3 / statistics.median(seconds[precision])
        rows.append(
            {
                "network": f"{name} at {size} px",
                "batch": batch,
                "kernels": kernels,
                "precision": precision,
                "first_step_s": significant(first_steps[way], 3),
                "images_per_s": significant(batch / step),
                "over_first": significant(statistics.median(one / other for one, other in zip(first, spent, strict=True)), 3),
                "gflop_per_image": significant(counter.get_total_flops() / batch / 1e9, 3),
                "peak_gflop_per_s": significant(peak / 1e9, 3),
                "of_peak": significant(counter.get_total_flops() / step / peak, 3),
            }
        )
    return rows, {f"{name} at {size} px, batch {batch}, {way}": shares(step) for way, step in steps.items() if "parts" not in way}


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("--networks", nargs="*", choices=list(CASES), default=[name for name in CASES if not name.startswith("test")])
    asked.add_argument("--precision", nargs="*", choices=list(TYPES), default=list(TYPES))
    asked.add_argument("--batch-size", type=int, nargs="*", help="images per step [default: from 4 to 64, by the network]")
    asked.add_argument("--turns", type=int, default=5)
    asked.add_argument("--compile", action="store_true", help="torch.compile as well")
    asked.add_argument("--cpu-time", action="store_true", help="measure the process's own time in place of the clock's")
    asked.add_argument("--peak-side", type=int, default=1536, help="rows of the matrices whose product is the peak")
    args = arguments(asked, QUICK)
    with described() as result:
        result |= {"threads": torch.get_num_threads(), "computes_with": torch.backends.cpu.get_cpu_capability(), "steps": [], "shares": {}}
        for name in args.networks:
            for size, batch in CASES[name]:
                for images in args.batch_size or (batch,):
                    rows, parts = measure(name, size, images, args)
                    result["steps"] += rows
                    result["shares"] |= parts
    finish(result, args)


if __name__ == "__main__":
    main()
