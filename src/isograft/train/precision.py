"""Which arithmetic is faster for this network on this machine: a measurement of a few steps, not a belief.

bf16 autocast gains on CPUs with bf16 matrix instructions (1.6x on ResNet-18 at 64 px, 1.9x on ViT-Tiny were seen) and loses
several-fold where they are emulated or the convolutions are depthwise.

On CPUs it is also unsound for very small feature maps. Where a map is so small that some taps of a filter only ever meet the padding, the
gradient of those taps is zero by definition, but the library leaves whatever was in memory there (seen with torch 2.15: NaN or 1e17 in
stride-2 convolutions of maps of one pixel). So such a network is trained in fp32.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from isograft.errors import IsograftError
from isograft.plan import Plan
from isograft.train.micro_batches import as_many_as_fit, least_part

CONCLUSIVE = 1.05
BATCH = 8


def decide_precision(plan: Plan, asked: str, backbone: nn.Module, image_size: int, smallest: int, device: torch.device) -> None:
    """Decide the arithmetic of a training run.

    Args:
        plan: Receives `precision`.
        asked: `--precision`.
        backbone: The network.
        image_size: Side of the input in pixels.
        smallest: Side of the smallest view it will see.
        device: Where the training will run.

    Raises:
        IsograftError: bf16 was asked for and would give wrong gradients.
    """
    if asked == "auto":
        plan.decide("precision", *choose_precision(backbone, image_size, device, smallest))
    else:
        plan.revise("precision", asked, "as asked")
    if plan["precision"] == "bf16" and device.type == "cpu" and (layer := unmet_taps(backbone, smallest)):
        raise IsograftError(
            f"bf16 gives wrong gradients here: the feature map before {layer} is smaller than its filter's reach at {smallest} px; "
            "use --precision fp32 or a larger --image-size"
        )


def choose_precision(backbone: nn.Module, image_size: int, device: torch.device, smallest: int | None = None) -> tuple[str, str]:
    """Measure fp32 against bf16 autocast on a forward and backward pass.

    Args:
        backbone: The network; a copy is measured, the original stays as it is.
        image_size: Side of the input in pixels.
        device: Where the training will run.
        smallest: Side of the smallest view it will see, if not `image_size`.

    Returns:
        `"fp32"` or `"bf16"`, and the reason in words.
    """
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "the GPU has bf16 matrix units"
        return "fp32", "the GPU has no bf16 matrix units"
    if torch.backends.cpu.get_cpu_capability() in {"DEFAULT", "AVX2", "NO AVX"}:
        return "fp32", f"this CPU ({torch.backends.cpu.get_cpu_capability()}) has no bf16 instructions, and emulating them is far slower"
    if layer := unmet_taps(backbone, smallest or image_size):
        return "fp32", f"the feature map before {layer} is smaller than its filter's reach, where bf16 gives wrong gradients on a CPU"
    network = copy.deepcopy(backbone).train()
    images = torch.randn(BATCH, 3, image_size, image_size).to(memory_format=torch.channels_last)

    def speed_of_half(batch: int) -> float:
        return _step_seconds(network, images[:batch], autocast=False) / _step_seconds(network, images[:batch], autocast=True)

    ratio = as_many_as_fit(speed_of_half, BATCH, least_part(network))
    if ratio > CONCLUSIVE:
        return "bf16", f"measured {ratio:.2f}x the speed of fp32 on this machine"
    return "fp32", f"bf16 measured {ratio:.2f}x the speed of fp32 on this machine"


@torch.no_grad()
def unmet_taps(network: nn.Module, side: int) -> str | None:
    """Name the first convolution with filter taps that never meet a pixel when the network sees images of this side, or None.

    Args:
        network: Maps float (B, 3, S, S) to anything; its modes and statistics stay as they are.
        side: Side of the input in pixels.
    """
    found: list[str] = []

    def look(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], None]:
        def hook(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            axes = zip(inputs[0].shape[2:], output.shape[2:], *_geometry(layer), strict=True)
            if any(_unmet(*axis) for axis in axes):
                found.append(name or "the convolution")

        return hook

    modes = [(module, module.training) for module in network.modules()]
    convolutions = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    hooks = [module.register_forward_hook(look(name)) for name, module in convolutions]
    try:
        first = next(network.parameters())
        network.eval()(torch.zeros(1, 3, side, side, device=first.device, dtype=first.dtype))
    finally:
        for handle in hooks:
            handle.remove()
        for module, training in modes:
            module.training = training
    return found[0] if found else None


def _geometry(layer: Any) -> tuple[tuple[int, int], ...]:
    """Kernel, stride, padding and dilation of a convolution, each for both axes; padding given as a word counts as none."""
    padding = (0, 0) if isinstance(layer.padding, str) else layer.padding
    return layer.kernel_size, layer.stride, padding, layer.dilation


def _unmet(size: int, out: int, kernel: int, stride: int, padding: int, dilation: int) -> bool:
    """Whether some tap of a filter lies in the padding at every one of its `out` places over `size` pixels."""
    if padding == 0:  # of its own making: what the last place needs, the smaller half of it first
        padding = max(0, (out - 1) * stride + dilation * (kernel - 1) + 1 - size) // 2
    places = [range(tap * dilation - padding, tap * dilation - padding + out * stride, stride) for tap in range(kernel)]
    return not all(any(0 <= place < size for place in course) for course in places)


def one_step(network: nn.Module, images: torch.Tensor, autocast: bool) -> None:
    """Pass images forward and backward through a network, and wait for the end.

    Args:
        network: In training mode; maps float (B, 3, S, S) to features.
        images: float (B, 3, S, S).
        autocast: Whether in bf16 where that is sound, by autocast.
    """
    with torch.autocast(images.device.type, torch.bfloat16, enabled=autocast):
        loss = network(images).float().square().mean()
    loss.backward()
    network.zero_grad()
    float(loss.detach())  # waits for a GPU


def _step_seconds(network: nn.Module, images: torch.Tensor, autocast: bool, repeats: int = 3) -> float:
    best = float("inf")
    for attempt in range(repeats + 1):
        began = time.perf_counter()
        one_step(network, images, autocast)
        if attempt:  # the first pass compiles kernels
            best = min(best, time.perf_counter() - began)
    return best
