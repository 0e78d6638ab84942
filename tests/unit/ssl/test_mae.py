"""MAE's pieces against lightly and numpy; works on any plain timm transformer."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from lightly.models.utils import get_2d_sine_cosine_positional_embedding, normalize_mean_var
from lightly.models.utils import patchify as lightly_patchify
from torch import nn

from isograft.data.augment import POLICIES
from isograft.errors import IsograftError
from isograft.ssl.mae import MAE, patchify, reconstruction_loss, sine_positions


def vit(name: str = "vit_tiny_patch16_224", **arguments: object) -> nn.Module:
    torch.manual_seed(0)
    chosen = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, **arguments}
    return timm.create_model(name, num_classes=0, **chosen)


def small(**arguments: object) -> MAE:
    return MAE(vit(**arguments), 24, width=16, depth=1)


def test_patches_are_lightlys() -> None:
    images = torch.randn(2, 3, 12, 12)
    assert torch.equal(patchify(images, (4, 4)), lightly_patchify(images, 4))


def test_patches_of_oblong_images_are_numpys() -> None:
    images = torch.arange(2 * 3 * 4 * 12, dtype=torch.float32).view(2, 3, 4, 12)
    patches = patchify(images, (2, 3)).numpy()
    for row in range(2):
        for column in range(4):
            block = images.numpy()[:, :, row * 2 : row * 2 + 2, column * 3 : column * 3 + 3]
            np.testing.assert_array_equal(patches[:, row * 4 + column], block.transpose(0, 2, 3, 1).reshape(2, -1))


def test_the_loss_gives_lightlys_target_and_its_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    predictions, patches = torch.randn(2, 3, 5, 12, generator=generator, dtype=torch.float64)
    mine, other = predictions.clone().requires_grad_(), predictions.clone().requires_grad_()
    loss = reconstruction_loss(mine, patches * 3 + 1)
    oracle = nn.MSELoss()(other, normalize_mean_var(patches * 3 + 1))
    loss.backward()
    oracle.backward()
    torch.testing.assert_close(loss, oracle, rtol=1e-10, atol=0)
    torch.testing.assert_close(mine.grad, other.grad, rtol=1e-8, atol=1e-14)


def test_a_blank_patch_has_target_zero() -> None:
    assert reconstruction_loss(torch.zeros(1, 1, 12), torch.full((1, 1, 12), 0.5)).item() == 0.0


def test_positions_are_lightlys() -> None:
    theirs = get_2d_sine_cosine_positional_embedding(16, 5, cls_token=False)
    np.testing.assert_allclose(sine_positions(5, 5, 16).numpy(), theirs, atol=1e-5)


KINDS = {
    "class token": {},
    "mean pooling": {"class_token": False, "global_pool": "avg"},
    "registers": {"reg_tokens": 2, "no_embed_class": True},
    "pre-norm": {"pre_norm": True},
    "any size": {"dynamic_img_size": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_transformer_runs_on_visible_tokens_only(kind: str) -> None:
    method = small(**KINDS[kind])
    lengths: list[int] = []
    method.backbone.blocks[0].register_forward_pre_hook(lambda _, args: lengths.append(args[0].shape[1]))
    out = method([torch.randn(3, 3, 32, 32)])
    out.loss.backward()
    assert lengths == [4 + method.backbone.num_prefix_tokens]
    assert out.embedding.shape == (3, 24)
    without = [name for name, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


@pytest.mark.parametrize("kind", KINDS)
def test_encoding_all_patches_is_the_backbones_own_pass(kind: str) -> None:
    method = small(**KINDS[kind]).eval()
    images = torch.randn(2, 3, 32, 32)
    codes = method.encode(images, torch.arange(16).expand(2, -1))
    torch.testing.assert_close(codes, method.backbone.forward_features(images))
    torch.testing.assert_close(method.backbone.forward_head(codes, pre_logits=True), method.backbone(images))


def test_hidden_pixels_do_not_reach_the_prediction() -> None:
    method = small().eval()
    images = torch.randn(1, 3, 32, 32)
    visible, hidden = torch.arange(4).view(1, -1), torch.arange(4, 16).view(1, -1)
    changed = images.clone()
    changed[:, :, 8:] += 5.0  # patches 0 to 3 are the first row
    assert torch.equal(method.encode(images, visible), method.encode(changed, visible))
    assert hidden.shape[1] == 12


def test_the_decoder_predicts_for_the_patch_asked_for() -> None:
    method = small().eval()
    codes = method.encode(torch.randn(1, 3, 32, 32), torch.arange(4).view(1, -1))
    hidden = torch.arange(4, 16).view(1, -1)
    straight = method.decoder(codes, torch.arange(4).view(1, -1), hidden, (4, 4))
    turned = method.decoder(codes, torch.arange(4).view(1, -1), hidden.flip(1), (4, 4))
    torch.testing.assert_close(turned, straight.flip(1), rtol=1e-4, atol=1e-5)
    assert float((straight[0, 0] - straight[0, 1]).detach().abs().max()) > 1e-4


def test_masks_change_from_step_to_step_and_continue_after_a_resume() -> None:
    method, images = small(), [torch.randn(4, 3, 32, 32)]
    losses = [method(images).loss.item() for _ in range(2)]
    assert losses[0] != losses[1]
    other = small()
    other.load_state_dict(method.state_dict())
    assert other(images).loss.item() == method(images).loss.item()


def test_reconstruction_is_learned_in_a_few_steps() -> None:
    method = small()
    # One image, always: the place of a patch says what is in it.
    images = [torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)).repeat_interleave(8, 2).repeat_interleave(8, 3)]
    images = [(images[0] + torch.sin(torch.arange(32.0) * 0.7)).expand(4, -1, -1, -1) * torch.linspace(-1, 1, 32).view(-1, 1)]
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = method(images).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


def test_other_networks_are_refused_with_the_way_out() -> None:
    for backbone in (nn.Flatten(), timm.create_model("resnet18", num_classes=0), vit(pos_embed="none")):
        with pytest.raises(IsograftError, match="vit_tiny_patch16_224"):
            MAE(backbone, 24)


def test_one_view_is_asked_for_that_moves_but_keeps_its_colours() -> None:
    policy = POLICIES["histology"].model_copy(update={"grey": 0.2, "blur": 0.3, "solarize": 0.1, "hue": 0.1})
    (spec,) = small().view_specs(32, policy)
    assert (spec.count, spec.size) == (1, 32)
    moving = {"crop", "aspect", "rotation", "flip_horizontal", "flip_vertical", "blur_sigma"}
    for name in type(policy).model_fields:
        assert getattr(spec.policy, name) == (getattr(policy, name) if name in moving else 0.0), name
