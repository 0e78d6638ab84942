"""VICReg's terms against lightly."""

from __future__ import annotations

import pytest
import torch
from lightly.loss import VICRegLoss
from lightly.loss.vicreg_loss import covariance_loss, invariance_loss, variance_loss
from torch import Tensor, nn

from isograft.ssl.vicreg import VICReg, vicreg_terms


def draw(count: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    # Dimensions of different spread: some above the hinge at 1, some below.
    spread = torch.linspace(0.2, 2.0, 7, dtype=torch.float64)
    return [(torch.randn(9, 7, generator=generator, dtype=torch.float64) * spread + 3).requires_grad_() for _ in range(count)]


def test_two_views_give_lightlys_value_and_gradients() -> None:
    ours, theirs = draw(2), draw(2)
    terms = vicreg_terms(ours)
    loss = 25 * terms.invariance + 25 * terms.variance + terms.covariance
    oracle = VICRegLoss()(*theirs)
    loss.backward()
    oracle.backward()
    torch.testing.assert_close(loss, oracle, rtol=1e-10, atol=0)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-8, atol=1e-12)


def test_three_views_average_pairs_and_views() -> None:
    views = draw(3)
    a, b, c = views
    terms = vicreg_terms(views)
    torch.testing.assert_close(terms.invariance, (invariance_loss(a, b) + invariance_loss(a, c) + invariance_loss(b, c)) / 3)
    torch.testing.assert_close(terms.variance, sum(variance_loss(v) for v in views) / 3)
    torch.testing.assert_close(terms.covariance, 2 * sum(covariance_loss(v) for v in views) / 3)


def test_a_constant_embedding_pays_the_whole_variance_term() -> None:
    terms = vicreg_terms([torch.ones(8, 5), torch.ones(8, 5)])
    assert terms.invariance == 0 and terms.covariance == 0
    assert terms.variance.item() == pytest.approx(1 - 1e-4**0.5)


def test_the_step_weighs_the_terms_and_records_them() -> None:
    torch.manual_seed(0)
    method = VICReg(nn.Sequential(nn.Flatten(), nn.Linear(48, 16)), 16, width=8, invariance=3, variance=5, covariance=7)
    images = torch.randn(6, 3, 4, 4)
    out = method([images, images + 0.1])
    parts = out.parts
    assert out.loss.item() == pytest.approx(3 * parts["invariance"] + 5 * parts["variance"] + 7 * parts["covariance"], rel=1e-5)
    out.loss.backward()
    assert all(parameter.grad is not None for parameter in method.parameters())
