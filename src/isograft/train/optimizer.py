"""Optimizers: AdamW with layer-wise learning rates, or the SGD of the paper."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def parameter_groups(
    backbone: nn.Module, rest: nn.Module | None, *, lr: float, rest_lr: float, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Split the trainable parameters into groups with their learning rate and weight decay.

    Args:
        backbone: The pretrained or new network; its layers get `lr * layer_decay ** depth_from_the_top` (arXiv:2003.10555).
        rest: Head or projector, trained at `rest_lr`.
        lr: Peak learning rate of the backbone's last layer.
        rest_lr: Peak learning rate of `rest`.
        weight_decay: For weights with more than one axis; biases and norms have none.
        layer_decay: Factor per layer group of the timm model; 1 switches it off.

    Returns:
        Groups with `lr` and `base_lr`, from which a schedule computes the rate of each step.
    """
    from timm.optim import param_groups_layer_decay

    groups: list[dict[str, Any]] = []
    if layer_decay < 1 and hasattr(backbone, "group_matcher"):
        for group in param_groups_layer_decay(backbone, weight_decay=weight_decay, layer_decay=layer_decay):
            scale = float(group.get("lr_scale", 1.0))
            groups.append({"params": group["params"], "weight_decay": group["weight_decay"], "lr": lr * scale})
    else:
        groups += _by_weight_decay(backbone, lr, weight_decay)
    if rest is not None:
        groups += _by_weight_decay(rest, rest_lr, weight_decay)
    for group in groups:
        group["base_lr"] = group["lr"]
    return [group for group in groups if group["params"]]


def _by_weight_decay(module: nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "lr": lr, "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "lr": lr, "weight_decay": 0.0},
    ]


def build_optimizer(groups: list[dict[str, Any]], name: str) -> torch.optim.Optimizer:
    """Make the optimizer: `adamw` (arXiv:1711.05101), or `sgd` with momentum 0.9 as in the paper's scripts; one pass over each tensor."""
    if name == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, fused=True)
    return torch.optim.AdamW(groups, betas=(0.9, 0.999), fused=True)


def scale_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's rate to its peak times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def peak_learning_rate(optimizer: torch.optim.Optimizer) -> float:
    """The largest rate of any group at this step: that of the layers that move most."""
    return max(float(group["lr"]) for group in optimizer.param_groups)
