"""DINO's loss against lightly; multi-crop, centre, schedules, state."""

from __future__ import annotations

import pytest
import timm
import torch
from lightly.loss import DINOLoss
from torch import Tensor, nn

from isograft.data.augment import POLICIES
from isograft.errors import IsograftError
from isograft.ssl.dino import DINO, DINOHead, dino_loss


def draw(count: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(5, 11, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(count)]


class Pool(nn.Module):
    """A convolution and a mean: takes any size."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).relu().mean(dim=(2, 3))


def small(**options: object) -> DINO:
    torch.manual_seed(0)
    return DINO(Pool(), 6, outputs=12, hidden=8, bottleneck=4, **options)


def views(seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(4, 3, size, size, generator=generator) for size in (16, 16, 8, 8, 8)]


@pytest.mark.parametrize(("globals_", "all_"), [(2, 2), (2, 6), (1, 3)])
def test_the_loss_gives_lightlys_value_and_gradients(globals_: int, all_: int) -> None:
    teacher = [t.detach() for t in draw(globals_, 0)]
    ours, theirs = draw(all_, 1), draw(all_, 1)
    oracle = DINOLoss(11, student_temp=0.1)
    oracle.center = torch.linspace(-1, 1, 11, dtype=torch.float64).view(1, 1, 11)
    loss = dino_loss(ours, teacher, torch.linspace(-1, 1, 11, dtype=torch.float64), 0.1, 0.05)
    expected = oracle(teacher, theirs, teacher_temp=0.05)
    loss.backward()
    expected.backward()
    # lightly keeps the temperature in float32.
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-5, atol=1e-9)


def test_the_centre_moves_as_lightlys() -> None:
    method = small(local_views=0, centre_momentum=0.8)
    oracle = DINOLoss(12, center_momentum=0.8)
    for seed in (1, 2):
        batch = views(seed)[:2]
        with torch.no_grad():
            teacher = method.teacher_head(method.teacher_backbone(torch.cat(batch)))
        oracle.update_center(torch.stack(teacher.chunk(2)))
        method(batch)
    torch.testing.assert_close(method.centre, oracle.center.flatten())


def test_the_centre_rests_outside_training() -> None:
    method = small().eval()
    method(views())
    assert torch.equal(method.centre, torch.zeros(12))


def test_the_teacher_sees_only_the_global_views_and_has_no_gradient() -> None:
    method = small(freeze_last=0.0)
    seen: list[tuple[int, ...]] = []
    method.teacher_backbone.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    runs: list[tuple[int, ...]] = []
    method.backbone.register_forward_pre_hook(lambda _, args: runs.append(tuple(args[0].shape)))
    out = method(views())
    out.loss.backward()
    assert seen == [(8, 3, 16, 16)]
    assert runs == [(8, 3, 16, 16), (12, 3, 8, 8)]
    trained = {name for name, p in method.named_parameters() if p.grad is not None and bool(p.grad.abs().sum() > 0)}
    assert trained == {name for name, _ in method.named_parameters() if not name.startswith("teacher")}
    assert out.embedding.shape == (4, 6)


def test_the_last_layer_is_frozen_at_first_and_the_loss_does_not_know() -> None:
    frozen, free = small(freeze_last=0.1), small(freeze_last=0.0)
    first, second = frozen(views()).loss, free(views()).loss
    first.backward()
    second.backward()
    assert torch.equal(first, second)
    assert float(frozen.head.prototypes.grad.abs().sum()) == 0.0
    assert torch.equal(frozen.backbone.layer.weight.grad, free.backbone.layer.weight.grad)
    frozen.zero_grad()
    frozen.after_step(0.1)
    frozen(views()).loss.backward()
    assert float(frozen.head.prototypes.grad.abs().sum()) > 0.0


def test_the_teacher_temperature_warms_up() -> None:
    method = small(teacher_temperature=(0.04, 0.08), warmup=0.5)
    seen = []
    for progress in (0.0, 0.25, 0.5, 1.0):
        method.after_step(progress)
        seen.append(float(method.teacher_temperature_now()))
    assert seen == pytest.approx([0.04, 0.06, 0.08, 0.08])


def test_teacher_centre_and_progress_survive_the_state_dict() -> None:
    method = small()
    method(views()).loss.backward()
    with torch.no_grad():
        method.backbone.layer.weight.add_(0.5)
    method.after_step(0.4)
    other = small()
    other.load_state_dict(method.state_dict())
    assert torch.equal(other(views(3)).loss, method(views(3)).loss)
    assert torch.equal(other.centre, method.centre)


def test_scores_of_prototypes_are_cosines() -> None:
    torch.manual_seed(0)
    head = DINOHead(6, 8, 4, 10)
    with torch.no_grad():
        head.prototypes.mul_(30)
    scores = head(torch.randn(50, 6))
    assert scores.shape == (50, 10)
    assert float(scores.detach().abs().max()) <= 1 + 1e-6


def test_the_teachers_backbone_is_kept() -> None:
    method = small()
    assert method.export_backbone() is method.teacher_backbone


def test_view_specs_ask_for_two_large_and_some_small_views() -> None:
    specs = small(local_views=3).view_specs(64, POLICIES["general"])
    assert [(spec.count, spec.size) for spec in specs] == [(2, 64), (3, 32)]
    assert specs[0].policy.crop == (0.4, 1.0)
    assert specs[1].policy.crop == (0.1, 0.4)
    assert [spec.count for spec in small(local_views=0).view_specs(64, POLICIES["general"])] == [2]


def vit(**arguments: object) -> nn.Module:
    return timm.create_model(
        "vit_tiny_patch16_224", num_classes=0, img_size=32, patch_size=8, embed_dim=24, depth=1, num_heads=2, **arguments
    )


def test_a_fixed_size_transformer_takes_local_views_and_is_unchanged_at_its_own_size() -> None:
    torch.manual_seed(0)
    backbone = vit().eval()
    images = torch.randn(2, 3, 32, 32)
    before = backbone(images)
    method = DINO(backbone, 24, outputs=12, hidden=8, bottleneck=4)
    torch.testing.assert_close(backbone(images), before)
    small_spec = method.view_specs(32, POLICIES["general"])[1]
    assert small_spec.size == 16
    method([images, images, *torch.randn(4, 2, 3, 16, 16)]).loss.backward()


def test_a_backbone_that_takes_one_size_only_is_refused_with_the_way_out() -> None:
    fixed = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 6))
    method = DINO(fixed, 6, outputs=12, hidden=8, bottleneck=4)
    with pytest.raises(IsograftError, match="local_views=0"):
        method.view_specs(32, POLICIES["general"])
