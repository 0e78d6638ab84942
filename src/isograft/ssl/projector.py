"""The small networks behind the backbone on which the losses act; they are thrown away afterwards."""

from __future__ import annotations

from itertools import pairwise

from torch import nn


def projector(widths: list[int], last_bias: bool = True) -> nn.Sequential:
    """Linear layers with batch norm and ReLU between them, none after the last.

    Args:
        widths: Input width, hidden widths, output width; at least two numbers.
        last_bias: Whether the last layer has a bias.

    Returns:
        Network from (B, widths[0]) to (B, widths[-1]).
    """
    layers: list[nn.Module] = []
    for source, target in pairwise(widths[:-1]):
        # The batch norm that follows has a shift, so a bias would be redundant.
        layers += [nn.Linear(source, target, bias=False), nn.BatchNorm1d(target), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1], bias=last_bias))
