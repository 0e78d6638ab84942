"""Grad-CAM against its equations worked out by hand with hooks, on every kind of network with feature maps."""

from __future__ import annotations

import pytest
import torch
from tests.unit.explain.conftest import untrained
from torch.nn import functional as F

from isograft.explain.gradcam import find_map_layer, grad_cam
from isograft.networks.backbones import build_backbone, feature_count
from isograft.networks.heads import Classifier, build_head

KINDS = {
    "test_resnet": {},
    "test_efficientnet": {},
    "test_convnext": {},
    "alzubaidi_light": {"width": 8},
    "alzubaidi_dcnn": {"width": 2},
}


def classifier(name: str, size: int, head: str = "linear") -> Classifier:
    torch.manual_seed(3)
    backbone = build_backbone(name, KINDS.get(name, {}), size)
    return Classifier(backbone, build_head(head, feature_count(backbone), 3)).eval()


@pytest.mark.parametrize("name", KINDS)
def test_the_map_is_the_weighted_sum_of_features_that_hooks_see(name: str, rng: object) -> None:
    network = classifier(name, 128, "paper" if name.startswith("alz") else "linear")
    images = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    layer = find_map_layer(network, 128)
    assert layer is not None and layer.name == "the last feature map" and min(layer.cells) >= 4
    maps = network.backbone.forward_features(images).detach().requires_grad_()
    logits = network.head(network.backbone.forward_head(maps))
    odds = logits[0, 1] - torch.logsumexp(logits[0, [0, 2]], 0)
    (slopes,) = torch.autograd.grad(odds, maps)
    by_hand = F.relu((slopes.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True))
    expected = F.interpolate(by_hand, (128, 128), mode="bilinear", align_corners=False)[0, 0].detach()
    torch.testing.assert_close(grad_cam(layer, images, 1), expected, rtol=1e-3, atol=1e-3 * float(expected.max()))


def test_a_small_image_is_looked_at_where_there_are_still_enough_cells() -> None:
    network = untrained("test_resnet", 0)
    layer = find_map_layer(network, 64)
    assert layer is not None and layer.name == "layer3" and layer.cells == (4, 4)
    assert layer.layer is network.backbone.layer3
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    kept = []
    with torch.enable_grad():
        hook = network.backbone.layer3.register_forward_hook(lambda m, i, output: kept.append(output))
        logits = network(images)
        hook.remove()
        (slopes,) = torch.autograd.grad(logits[0, 1] - logits[0, 0], kept[0])
    expected = F.interpolate(F.relu((slopes.mean((2, 3), keepdim=True) * kept[0]).sum(1, keepdim=True)), (64, 64), mode="bilinear")[0, 0]
    torch.testing.assert_close(grad_cam(layer, images, 1), expected.detach(), rtol=1e-4, atol=1e-6)


def test_channels_that_come_last_are_put_first() -> None:
    torch.manual_seed(0)
    backbone = build_backbone("swin_tiny_patch4_window7_224", {"depths": (1, 1), "embed_dim": 24, "num_heads": (2, 2)}, 224)
    layer = find_map_layer(Classifier(backbone, build_head("linear", feature_count(backbone), 2)).eval(), 224)
    assert layer is not None and layer.cells == (28, 28)


def test_a_transformer_and_a_map_of_one_cell_have_no_layer_to_look_at() -> None:
    assert find_map_layer(untrained("test_vit", 0), 32) is None
    torch.manual_seed(0)
    only = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 64), torch.nn.Flatten(), torch.nn.Linear(4, 2)).eval()
    assert find_map_layer(only, 64) is None
