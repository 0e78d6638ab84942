"""Which arithmetic is faster for this network on this machine: a measurement of a few steps, not a belief.

bf16 autocast gains on CPUs with bf16 matrix instructions (1.35x on ResNet-18, 1.9x on ViT-Tiny were seen) and loses several-fold where they
are emulated or the convolutions are depthwise.
"""

from __future__ import annotations

import copy
import time

import torch
from torch import nn

CONCLUSIVE = 1.05
BATCH = 8


def choose_precision(backbone: nn.Module, image_size: int, device: torch.device) -> tuple[str, str]:
    """Measure fp32 against bf16 autocast on a forward and backward pass.

    Args:
        backbone: The network; a copy is measured, the original stays as it is.
        image_size: Side of the input in pixels.
        device: Where the training will run.

    Returns:
        `"fp32"` or `"bf16"`, and the reason in words.
    """
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "the GPU has bf16 matrix units"
        return "fp32", "the GPU has no bf16 matrix units"
    if torch.backends.cpu.get_cpu_capability() in {"DEFAULT", "AVX2", "NO AVX"}:
        return "fp32", f"this CPU ({torch.backends.cpu.get_cpu_capability()}) has no bf16 instructions, and emulating them is far slower"
    network = copy.deepcopy(backbone).train()
    images = torch.randn(BATCH, 3, image_size, image_size).to(memory_format=torch.channels_last)
    full = _step_seconds(network, images, autocast=False)
    half = _step_seconds(network, images, autocast=True)
    ratio = full / half
    if ratio > CONCLUSIVE:
        return "bf16", f"measured {ratio:.2f}x the speed of fp32 on this machine"
    return "fp32", f"bf16 measured {ratio:.2f}x the speed of fp32 on this machine"


def _step_seconds(network: nn.Module, images: torch.Tensor, autocast: bool, repeats: int = 3) -> float:
    best = float("inf")
    for attempt in range(repeats + 1):
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = network(images).float().square().mean()
        loss.backward()
        network.zero_grad()
        if attempt:  # the first pass compiles kernels
            best = min(best, time.perf_counter() - began)
    return best
