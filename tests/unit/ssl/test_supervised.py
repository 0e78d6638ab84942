"""Supervised pretraining: cross entropy over the labeled images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import nn

from isograft.errors import IsograftError
from isograft.ssl.supervised import Supervised, cross_entropy


def small(classes: int = 3) -> Supervised:
    torch.manual_seed(0)
    return Supervised(nn.Sequential(nn.Flatten(), nn.Linear(48, 8)), 8, classes=classes)


def test_the_loss_is_scipys_over_the_labeled_images() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.tensor([2, -1, 0, 1, -1])
    logs = log_softmax(logits.numpy(), axis=1)
    expected = -np.mean([logs[0, 2], logs[2, 0], logs[3, 1]])
    assert cross_entropy(logits, labels).item() == pytest.approx(expected, rel=1e-12)


def test_a_batch_without_labels_costs_nothing_and_is_no_nan() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    loss = cross_entropy(logits, torch.full((4,), -1))
    loss.backward()
    assert loss.item() == 0.0
    assert float(logits.grad.abs().sum()) == 0.0


def test_the_step_learns_labels() -> None:
    method, images, labels = small(), torch.randn(12, 3, 4, 4), torch.arange(12) % 3
    optimizer = torch.optim.Adam(method.parameters(), lr=2e-2)
    for _ in range(40):
        out = method([images], labels)
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
    assert out.parts["accuracy"] == 1.0
    assert out.embedding.shape == (12, 8)


def test_missing_labels_and_too_few_classes_are_refused() -> None:
    with pytest.raises(IsograftError, match="--label-column"):
        small()([torch.randn(2, 3, 4, 4)])
    with pytest.raises(IsograftError, match="at least 2 classes"):
        small(classes=1)
