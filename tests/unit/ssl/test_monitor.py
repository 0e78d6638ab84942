"""The monitor against scipy and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.neighbors import KNeighborsClassifier

from isograft.ssl.monitor import collapsed, effective_rank, embedding_std, knn_predict, knn_probe


def draw(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("rows", "columns"), [(40, 8), (8, 40)])
@pytest.mark.parametrize("centre", [True, False])
def test_the_effective_rank_is_scipys_entropy(rows: int, columns: int, centre: bool) -> None:
    embedding = draw(rows, columns) + 2
    matrix = embedding.double().numpy()
    values = scipy.linalg.svdvals(matrix - matrix.mean(axis=0) if centre else matrix)
    assert effective_rank(embedding, centre=centre) == pytest.approx(math.exp(scipy.stats.entropy(values)), rel=1e-6)


@pytest.mark.parametrize("used", [1, 3, 7])
def test_equal_orthogonal_directions_count_one_each(used: int) -> None:
    signs = torch.from_numpy(scipy.linalg.hadamard(16)).float()[:, 1 : used + 1]
    assert effective_rank(torch.cat([signs, torch.zeros(16, 8 - used)], dim=1)) == pytest.approx(used)


@given(seed=st.integers(0, 100), factor=st.floats(0.01, 100))
@settings(max_examples=20, deadline=None)
def test_rank_does_not_depend_on_scale_shift_or_rotation(seed: int, factor: float) -> None:
    embedding = draw(20, 6, seed).double()
    rotation = torch.linalg.qr(draw(6, 6, seed + 1).double()).Q
    assert effective_rank(embedding @ rotation * factor + 5) == pytest.approx(effective_rank(embedding), rel=1e-9)


def test_spread_is_one_everywhere_and_zero_at_a_point() -> None:
    assert embedding_std(draw(4000, 32)) == pytest.approx(1.0, abs=0.01)
    assert embedding_std(torch.ones(10, 4)) == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("k", [1, 5, 20, 200])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_the_probe_is_scikit_learns(k: int, temperature: float) -> None:
    train_y, test_y = torch.arange(60) % 3, torch.arange(45) % 3
    means = 0.8 * torch.eye(3, 6)
    train_x, test_x = draw(60, 6, 1) + means[train_y], draw(45, 6, 2) + means[test_y]
    oracle = KNeighborsClassifier(min(k, 60), metric="cosine", weights=lambda distance: np.exp((1 - distance) / temperature))
    expected = oracle.fit(train_x.numpy(), train_y.numpy()).predict(test_x.numpy())
    np.testing.assert_array_equal(knn_predict(train_x, train_y, test_x, k, temperature).numpy(), expected)
    score = knn_probe(train_x, train_y, test_x, test_y, k, temperature)
    assert score.macro_f1 == pytest.approx(f1_score(test_y, expected, average="macro"))
    assert score.balanced_accuracy == pytest.approx(balanced_accuracy_score(test_y, expected))


def test_a_very_small_temperature_is_the_nearest_neighbour() -> None:
    train_x, test_x, train_y = draw(30, 4, 1), draw(20, 4, 2), torch.arange(30) % 4
    assert torch.equal(knn_predict(train_x, train_y, test_x, 30, 1e-4), knn_predict(train_x, train_y, test_x, 1, 0.07))


def test_a_class_never_tested_counts_only_where_it_is_predicted() -> None:
    train_x, train_y = torch.eye(3), torch.tensor([0, 1, 2])
    perfect = knn_probe(train_x, train_y, torch.eye(3)[:2], torch.tensor([0, 1]), 1)
    assert perfect == (1.0, 1.0)
    wrong = knn_probe(train_x, train_y, torch.eye(3)[[0, 2]], torch.tensor([0, 1]), 1)
    assert wrong.macro_f1 == pytest.approx(1 / 3) and wrong.balanced_accuracy == pytest.approx(1 / 2)


def test_collapse_to_a_point_to_a_line_and_to_nan_is_seen() -> None:
    point = torch.ones(50, 16) + 1e-4 * draw(50, 16)
    line = draw(50, 1) * torch.ones(1, 16) + 1e-4 * draw(50, 16)
    assert "same embedding" in str(collapsed(embedding_std(point), effective_rank(point), 16))
    assert "dimensions" in str(collapsed(embedding_std(line), effective_rank(line), 16))
    broken = draw(50, 16)
    broken[3, 4] = torch.nan
    assert "not numbers" in str(collapsed(embedding_std(broken), effective_rank(broken), 16))
    assert effective_rank(torch.ones(5, 4)) == 0.0


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_an_untrained_network_on_similar_images_is_not_called_collapsed(name: str) -> None:
    torch.manual_seed(0)
    arguments = {"img_size": 32, "patch_size": 8, "depth": 4} if name.startswith("vit") else {}
    network = timm.create_model(name, num_classes=0, **arguments)
    images = 0.5 * torch.randn(1, 3, 32, 32) + 0.3 * torch.nn.functional.interpolate(torch.randn(64, 3, 4, 4), size=32)
    with torch.no_grad():
        embedding = network.train()(images)
    assert collapsed(embedding_std(embedding), effective_rank(embedding), embedding.shape[1]) is None
