"""Whether convolutions are trained by the library's kernels or by matrix products (`networks/matrix_convolution.py`).

Decided by rule and not by the clock: the two round sums in another order, and where they are about as fast, a measurement would choose
now this and now that, so that the same command would end in other bytes.
"""

from __future__ import annotations

import torch
from torch import nn

from isograft.networks.matrix_convolution import Kernels, has_choice, use_kernels
from isograft.plan import Plan


def decide_convolutions(plan: Plan, network: nn.Module, device: torch.device) -> None:
    """Decide what trains the convolutions.

    Args:
        plan: Holds `precision`; receives `convolutions`.
        network: The network or whatever holds it; it stays as it is.
        device: Where the training will run.
    """
    plan.decide("convolutions", *_choose(plan, network, device))


def apply_convolutions(plan: Plan, network: nn.Module) -> None:
    """Let a network be trained as the plan says, in place; plans of earlier versions say nothing and mean the library."""
    use_kernels(network, plan.get("convolutions", "library"))


def _choose(plan: Plan, network: nn.Module, device: torch.device) -> tuple[Kernels, str]:
    """Return the kernels, and why."""
    if device.type != "cpu":
        return "library", "the GPU's own kernels"
    if not has_choice(network):
        return "library", "the network has no convolution that could be trained otherwise"
    capability = torch.backends.cpu.get_cpu_capability()
    if capability == "AVX2" and plan["precision"] == "fp32":
        return "products", "gradients of filters as matrix products: the library is slow at them on AVX2"
    if capability == "AVX512":
        return (
            "dense",
            "many maps much smaller than the filter as one matrix; the library is fast at all else on AVX512",
        )
    return "library", f"other kernels were not measured on {capability} in {plan['precision']}"
