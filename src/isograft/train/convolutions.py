"""Whether convolutions are trained by the library's kernels or by matrix products (`networks/matrix_convolution.py`)."""

from __future__ import annotations

import copy
import statistics
import time

import torch
from torch import nn

from isograft.networks.matrix_convolution import use_matrix_products
from isograft.plan import Plan
from isograft.train.precision import one_step

CONCLUSIVE = 1.15  # well above the noise of a shared machine, so that a repeated run decides the same
BATCH = 32
TURNS = 3


def decide_convolutions(plan: Plan, network: nn.Module, device: torch.device) -> None:
    """Decide what trains the convolutions, and let the network do so.

    Args:
        plan: Holds `image_size`, `precision` and perhaps `resolution`; receives `convolutions`.
        network: The network or whatever holds it; its convolutions change in place.
        device: Where the training will run.
    """
    if "convolutions" not in plan:
        plan.decide("convolutions", *_choose(plan, network, device))
    apply_convolutions(plan, network)


def apply_convolutions(plan: Plan, network: nn.Module) -> None:
    """Let a network be trained as the plan says; plans of earlier versions say nothing and mean the library."""
    use_matrix_products(network, plan.get("convolutions", "library") == "products")


def _choose(plan: Plan, network: nn.Module, device: torch.device) -> tuple[str, str]:
    """Return `"library"` or `"products"`, and why."""
    if device.type != "cpu":
        return "library", "the GPU's own kernels"
    trial = copy.deepcopy(network)
    if not use_matrix_products(trial):
        return "library", "the network has no convolution that could be trained otherwise"
    capability = torch.backends.cpu.get_cpu_capability()
    if capability == "AVX2" and plan["precision"] == "fp32":
        return "products", "gradients of filters as matrix products: the library is slow at them on AVX2, most on small maps"
    inner = getattr(trial, "backbone", trial)
    backbone = inner if isinstance(inner, nn.Module) else trial
    gain = measured_gain(backbone, _usual_size(plan), autocast=plan["precision"] == "bf16")
    words = f"matrix products measured {gain:.2f}x the speed of the library's gradients on this machine"
    return ("products" if gain > CONCLUSIVE else "library"), words


def _usual_size(plan: Plan) -> int:
    """Side of the views that most steps see."""
    sizes = plan.get("resolution", [[plan["image_size"], 1.0]])
    return int(max(sizes, key=lambda entry: entry[1])[0])


def measured_gain(backbone: nn.Module, size: int, autocast: bool) -> float:
    """Speed of a step by matrix products over that by the library, the two taking turns.

    Args:
        backbone: Maps float (B, 3, S, S) to features; its convolutions and modes change.
        size: Side S in pixels.
        autocast: Whether in bf16.
    """
    backbone.train()
    images = torch.randn(min(BATCH, max(2, 2**19 // size**2)), 3, size, size).to(memory_format=torch.channels_last)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(TURNS + 1):
        for on, times in seconds.items():
            use_matrix_products(backbone, on)
            began = time.perf_counter()
            one_step(backbone, images, autocast)
            times.append(time.perf_counter() - began)
    return statistics.median(seconds[False][1:]) / statistics.median(seconds[True][1:])
