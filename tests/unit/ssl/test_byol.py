"""BYOL's loss against lightly, and its teacher."""

from __future__ import annotations

import copy

import pytest
import torch
from lightly.loss import NegativeCosineSimilarity
from torch import Tensor, nn

from isograft.ssl.byol import BYOL, regression_loss


def small() -> BYOL:
    torch.manual_seed(0)
    return BYOL(nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.BatchNorm1d(16)), 16, hidden=24, width=8)


def pair(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)
    return first.requires_grad_(), second


def test_the_loss_is_two_plus_twice_lightlys_with_twice_its_gradient() -> None:
    (p, z), (q, y) = pair(), pair()
    loss, oracle = regression_loss(p, z), NegativeCosineSimilarity()(q, y)
    loss.backward()
    oracle.backward()
    torch.testing.assert_close(loss, 2 + 2 * oracle, rtol=1e-10, atol=0)
    torch.testing.assert_close(p.grad, 2 * q.grad, rtol=1e-8, atol=1e-12)


def test_no_gradient_reaches_the_targets() -> None:
    p, z = pair()
    z.requires_grad_()
    regression_loss(p, z).backward()
    assert z.grad is None


def test_the_step_is_the_mean_of_both_directions() -> None:
    method = small()
    views = list(torch.randn(2, 5, 3, 4, 4))
    expected = copy.deepcopy(method)
    predictions = expected.predictor(expected.projector(expected.backbone(torch.cat(views)))).chunk(2)
    targets = expected.teacher_projector(expected.teacher_backbone(torch.cat(views))).chunk(2)
    oracle = NegativeCosineSimilarity()
    both = [2 + 2 * oracle(predictions[0], targets[1]), 2 + 2 * oracle(predictions[1], targets[0])]
    torch.testing.assert_close(method(views).loss, sum(both) / 2)


def test_the_teacher_is_not_trained_but_follows() -> None:
    method = small()
    method(list(torch.randn(2, 5, 3, 4, 4))).loss.backward()
    assert all(p.grad is None for p in [*method.teacher_backbone.parameters(), *method.teacher_projector.parameters()])
    with torch.no_grad():
        method.backbone[1].weight.add_(1.0)
    before = method.teacher_backbone[1].weight.clone()
    method.after_step(0.0)
    torch.testing.assert_close(method.teacher_backbone[1].weight, before + 0.01)


def test_the_teacher_stands_still_at_the_end() -> None:
    method = small()
    with torch.no_grad():
        method.projector[0].weight.add_(1.0)
    before = method.teacher_projector[0].weight.clone()
    method.after_step(1.0)
    assert torch.equal(method.teacher_projector[0].weight, before)


def test_the_teacher_survives_the_state_dict() -> None:
    method = small()
    with torch.no_grad():
        method.teacher_backbone[1].weight.fill_(0.25)
    other = small()
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.teacher_backbone[1].weight, method.teacher_backbone[1].weight)


def test_the_student_is_kept() -> None:
    method = small()
    assert method.export_backbone() is method.backbone


def test_the_loss_is_bounded() -> None:
    p, _ = pair()
    assert regression_loss(p, p).item() == pytest.approx(0, abs=1e-12)
    assert regression_loss(p, -p).item() == pytest.approx(4)
