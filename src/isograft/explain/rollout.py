"""Which patches a vision transformer's answer draws on: attention followed from layer to layer, weighted by its gradient.

Chefer, Gur, Wolf, Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder Transformers, ICCV 2021,
equations 5 and 6: R starts as the identity, and every layer adds E[(dA * A)+] R to it, where A are the layer's attention maps,
dA their gradients and E the mean over heads. Without the gradients it is the attention rollout of Abnar and Zuidema, ACL 2020,
which is the same for every class.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from isograft.explain.gradcam import parts, trial_image
from isograft.explain.scores import LogOdds, stretched


@dataclass(frozen=True)
class TokenLayers:
    """The self-attention of a vision transformer.

    Attributes:
        network: (B, 3, S, S) to logits (B, K).
        layers: The attention modules in order.
        prefix: Tokens before those of the patches, such as the class token.
        grid: Rows and columns of patches.
        averaged: Whether the head sees the mean of the patch tokens; otherwise the first token.
    """

    network: nn.Module
    layers: Sequence[nn.Module]
    prefix: int
    grid: tuple[int, int]
    averaged: bool


def find_token_layers(network: nn.Module, side: int) -> TokenLayers | None:
    """The self-attention over all patches, layer by layer; None for a network that is not such a transformer.

    Args:
        network: A classifier in evaluation mode.
        side: Side S of its input in pixels.
    """
    backbone, _ = parts(network)
    layers = [one for one in backbone.modules() if isinstance(getattr(one, "fused_attn", None), bool) and hasattr(one, "attn_drop")]
    grid = getattr(getattr(backbone, "patch_embed", None), "grid_size", None)
    pooling = getattr(backbone, "global_pool", None)
    if not layers or grid is None or pooling not in ("token", "avg"):
        return None
    found = TokenLayers(network, layers, int(getattr(backbone, "num_prefix_tokens", 0)), (grid[0], grid[1]), pooling == "avg")
    try:
        with _seen_attention(layers) as maps, torch.no_grad():
            network(trial_image(network, side))
    except (TypeError, ValueError, RuntimeError):
        return None
    tokens = found.prefix + grid[0] * grid[1]
    whole = all(one.ndim == 4 and one.shape[0] == 1 and tuple(one.shape[2:]) == (tokens, tokens) for one in maps)
    return found if len(maps) == len(layers) and whole and (found.averaged or found.prefix) else None


def rollout(tokens: TokenLayers, images: Tensor, target: int) -> Tensor:
    """The map of one class.

    Args:
        tokens: Where to look.
        images: One normalised float image (1, 3, S, S).
        target: The class.

    Returns:
        Non-negative float (S, S), stretched bilinearly from the patches: R without the identity it began with.
    """
    with _seen_attention(tokens.layers) as maps:
        score = LogOdds(tokens.network)(images.clone().requires_grad_())[0, target]
        slopes = torch.autograd.grad(score, maps)
    identity = torch.eye(maps[0].shape[-1], device=images.device)
    relevance = identity
    for attention, slope in zip(maps, slopes, strict=True):
        relevance = relevance + (attention.detach() * slope)[0].clamp(min=0).mean(dim=0) @ relevance
    gained = relevance - identity
    row = gained[tokens.prefix :].mean(dim=0) if tokens.averaged else gained[0]
    return stretched(row[tokens.prefix :].reshape(tokens.grid), images.shape[-1])


@contextmanager
def _seen_attention(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """The attention maps (1, heads, T, T) of whatever is run inside; fused kernels, which keep them from sight, are off so long."""
    maps: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        maps.append(output)

    fused = [bool(layer.fused_attn) for layer in layers]
    hooks = [layer.attn_drop.register_forward_hook(keep) for layer in layers]  # type: ignore[union-attr]
    try:
        for layer in layers:
            setattr(layer, "fused_attn", False)  # noqa: B010
        yield maps
    finally:
        for layer, was in zip(layers, fused, strict=True):
            setattr(layer, "fused_attn", was)  # noqa: B010
        for hook in hooks:
            hook.remove()
