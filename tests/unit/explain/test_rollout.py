"""Attention rollout against Chefer's equations written out with loops over a network whose attention is computed anew."""

from __future__ import annotations

import pytest
import torch
from tests.unit.explain.conftest import trained, untrained
from timm.layers import set_fused_attn
from torch.nn import functional as F

from isograft.explain.rollout import find_token_layers, rollout
from isograft.networks.backbones import build_backbone, feature_count
from isograft.networks.heads import Classifier, build_head


def by_hand(network: Classifier, images: torch.Tensor, target: int) -> torch.Tensor:
    """Equations 5 and 6 with the attention worked out from each block's own weights."""
    backbone = network.backbone
    tokens = backbone._pos_embed(backbone.patch_embed(images))
    seen = []
    for block in backbone.blocks:
        inner, attn = block.norm1(tokens), block.attn
        b, n, _ = inner.shape
        q, k, v = attn.qkv(inner).reshape(b, n, 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)
        a = torch.softmax(attn.q_norm(q) @ attn.k_norm(k).transpose(-2, -1) * attn.scale, -1)
        seen.append(a)
        mixed = attn.proj(attn.norm((a @ v).transpose(1, 2).reshape(b, n, -1)))
        tokens = tokens + block.ls1(mixed)
        tokens = tokens + block.ls2(block.mlp(block.norm2(tokens)))
    logits = network.head(backbone.forward_head(backbone.norm(tokens)))
    slopes = torch.autograd.grad(logits[0, target] - logits[0, 1 - target], seen)
    size = seen[0].shape[-1]
    relevance = torch.eye(size)
    for a, slope in zip(seen, slopes, strict=True):
        mean = torch.zeros(size, size)
        for head in range(a.shape[1]):
            mean += torch.clamp(slope[0, head] * a[0, head], min=0) / a.shape[1]
        relevance = relevance + mean @ relevance
    return F.interpolate(relevance[0, 1:].reshape(1, 1, 4, 4), (32, 32), mode="bilinear", align_corners=False)[0, 0].detach()


@pytest.mark.parametrize("target", [0, 1])
def test_the_map_is_the_class_tokens_row_of_equation_6(batch: torch.Tensor, target: int) -> None:
    network = trained("test_vit")
    layers = find_token_layers(network, 32)
    assert layers is not None and layers.prefix == 1 and not layers.averaged
    expected = by_hand(network, batch[:1], target)
    torch.testing.assert_close(rollout(layers, batch[:1], target), expected, rtol=1e-3, atol=1e-3 * float(expected.max()))


def test_fused_kernels_are_on_again_afterwards(batch: torch.Tensor) -> None:
    set_fused_attn(True)
    network = untrained("test_vit", 0)
    layers = find_token_layers(network, 32)
    rollout(layers, batch[:1], 0)
    assert [block.attn.fused_attn for block in network.backbone.blocks] == [True] * 6


@pytest.mark.parametrize(
    ("name", "arguments", "prefix", "averaged"),
    [
        ("test_vit", {"global_pool": "avg", "class_token": False}, 0, True),
        ("deit_tiny_distilled_patch16_224", {"depth": 2}, 2, False),
        ("beit_base_patch16_224", {"depth": 2, "embed_dim": 96, "num_heads": 3}, 1, True),
        ("eva02_tiny_patch14_224", {"depth": 2}, 1, True),
    ],
)
def test_other_transformers_are_followed_too(name: str, arguments: dict[str, object], prefix: int, averaged: bool) -> None:
    size = 56 if "patch14" in name else 64
    torch.manual_seed(0)
    backbone = build_backbone(name, arguments, size)
    network = Classifier(backbone, build_head("linear", feature_count(backbone), 2)).eval()
    layers = find_token_layers(network, size)
    assert layers is not None and (layers.prefix, layers.averaged, layers.grid) == (prefix, averaged, (4, 4))
    assert rollout(layers, torch.randn(1, 3, size, size), 1).shape == (size, size)


def test_windows_of_attention_and_pooling_by_attention_cannot_be_followed() -> None:
    assert find_token_layers(untrained("test_resnet", 0), 32) is None
    for name, arguments, size in (
        ("vit_base_patch16_siglip_224", {"depth": 1}, 32),
        ("swin_tiny_patch4_window7_224", {"depths": (1, 1), "embed_dim": 24, "num_heads": (2, 2)}, 224),
    ):
        backbone = build_backbone(name, arguments, size)
        assert find_token_layers(Classifier(backbone, build_head("linear", feature_count(backbone), 2)).eval(), size) is None
