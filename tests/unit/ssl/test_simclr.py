"""NT-Xent against lightly and against a loop written from the definition."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss import NTXentLoss
from torch import Tensor, nn

from isograft.errors import IsograftError
from isograft.ssl.simclr import SimCLR, nt_xent


def draw(count: int, images: int, width: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(images, width, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(count)]


def by_definition(views: list[Tensor], temperature: float) -> float:
    rows = [[(v / v.norm()).tolist() for v in view.detach()] for view in views]
    similarity = lambda a, b: math.exp(sum(x * y for x, y in zip(a, b, strict=True)) / temperature)  # noqa: E731
    losses = []
    for first in range(len(views)):
        for second in range(len(views)):
            for image in range(len(rows[0])):
                if first == second:
                    continue
                partner = similarity(rows[first][image], rows[second][image])
                others = sum(similarity(rows[first][image], row) for view in rows for at, row in enumerate(view) if at != image)
                losses.append(-math.log(partner / (partner + others)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
@pytest.mark.parametrize("images", [2, 7, 16])
def test_two_views_give_lightlys_value_and_gradients(temperature: float, images: int) -> None:
    ours, theirs = draw(2, images, 5), draw(2, images, 5)
    loss, oracle = nt_xent(ours, temperature), NTXentLoss(temperature)(*theirs)
    loss.backward()
    oracle.backward()
    torch.testing.assert_close(loss, oracle, rtol=1e-10, atol=0)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_any_number_of_views_follows_the_definition(count: int) -> None:
    views = draw(count, 4, 6)
    assert nt_xent(views, 0.3).item() == pytest.approx(by_definition(views, 0.3), rel=1e-9)


@given(seed=st.integers(0, 1000), count=st.integers(2, 4))
@settings(max_examples=20, deadline=None)
def test_order_of_views_order_of_images_and_length_of_vectors_do_not_matter(seed: int, count: int) -> None:
    views = [view.detach() for view in draw(count, 5, 4, seed)]
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    changed = [view[order] * 3.7 for view in reversed(views)]
    torch.testing.assert_close(nt_xent(changed, 0.2), nt_xent(views, 0.2))


def test_a_perfect_embedding_costs_less_than_a_random_one_and_a_constant_one_costs_log_of_the_choices() -> None:
    perfect = torch.eye(6)
    assert nt_xent([perfect, perfect], 0.1) < nt_xent([v.detach() for v in draw(2, 6, 6)], 0.1)
    constant = torch.ones(6, 4)
    assert nt_xent([constant, constant, constant], 0.1).item() == pytest.approx(math.log(1 + 3 * 5), rel=1e-5)


def test_the_loss_is_float32_under_bfloat16_autocast() -> None:
    views = [view.detach().bfloat16().requires_grad_() for view in draw(2, 8, 16)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nt_xent(views, 0.05)
    loss.backward()
    exact = nt_xent([view.detach().float() for view in views], 0.05)
    assert loss.dtype == torch.float32
    assert loss.item() == exact.item()
    assert views[0].grad is not None and views[0].grad.dtype == torch.bfloat16


def test_one_view_is_refused() -> None:
    method = SimCLR(nn.Flatten(), 12)
    with pytest.raises(IsograftError, match="at least 2 views"):
        method.step([torch.zeros(4, 3, 2, 2)])


def test_similarity_is_learned_in_a_few_steps() -> None:
    torch.manual_seed(0)
    method = SimCLR(nn.Sequential(nn.Flatten(), nn.Linear(48, 16)), 16, hidden=32, width=8)
    images = torch.randn(16, 3, 4, 4)
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        out = method([images + 0.1 * torch.randn_like(images), images + 0.1 * torch.randn_like(images)])
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        losses.append(out.loss.item())
    assert losses[-1] < 0.3 * losses[0]
    assert out.embedding.shape == (16, 16) and not out.embedding.requires_grad
