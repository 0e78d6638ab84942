"""Calibration against scikit-learn, torchmetrics and torch's own optimum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss
from statsmodels.stats.proportion import proportion_confint
from torchmetrics.functional.classification import multiclass_calibration_error

from isograft.assess.calibration import (
    apply_temperature,
    brier,
    equal_mass,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    reliability,
)


def made(rng: np.random.Generator, n: int = 400, classes: int = 3, sure: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from softmax probabilities, and those probabilities made `sure` times as sure."""
    logits = rng.normal(size=(n, classes)) * 1.5
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (rng.random((n, 1)) > p.cumsum(1)).sum(1).clip(max=classes - 1)
    raised = np.exp(sure * logits)
    return labels, raised / raised.sum(1, keepdims=True)


def test_the_proper_scores_are_those_of_others(rng: np.random.Generator) -> None:
    labels, p = made(rng)
    assert log_loss(labels, p) == pytest.approx(sklearn_log_loss(labels, p))
    assert brier(labels, p) == pytest.approx(np.mean([((p[row] - np.eye(3)[label]) ** 2).sum() for row, label in enumerate(labels)]))
    assert brier(labels, np.eye(3)[labels]) == 0 and brier(labels, np.eye(3)[(labels + 1) % 3]) == 2


def test_with_bins_of_equal_width_filled_alike_the_error_is_that_of_torchmetrics(rng: np.random.Generator) -> None:
    confidence = (np.arange(1000) + 0.5) / 1000  # so that bins of equal mass are bins of equal width
    p = np.column_stack([confidence, 1 - confidence])
    p = np.column_stack([p[:, 0], p[:, 1] * 0.5, p[:, 1] * 0.5])[confidence > 0.5]
    labels = rng.integers(0, 3, len(p))
    theirs = multiclass_calibration_error(torch.from_numpy(p), torch.from_numpy(labels), num_classes=3, n_bins=20, norm="l1")
    assert expected_calibration_error(labels, p, bins=10) == pytest.approx(float(theirs), abs=1e-6)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(1, 12))
def test_equal_scores_share_a_bin_and_bins_are_in_order(values: list[int], bins: int) -> None:
    scores = np.array(values) / 6
    cut = equal_mass(scores, bins)
    assert len(cut.low) <= bins and set(cut.number) == set(range(len(cut.low)))
    for value in set(values):
        assert len(set(cut.number[scores == value / 6])) == 1
    assert (cut.high[:-1] < cut.low[1:]).all()
    assert all(cut.low[number] <= score <= cut.high[number] for score, number in zip(scores, cut.number, strict=True))


def test_distinct_scores_fill_bins_alike(rng: np.random.Generator) -> None:
    counts = np.bincount(equal_mass(rng.random(1003), 10).number)
    assert counts.min() >= 100 and counts.max() <= 101


@pytest.mark.parametrize("sure", [0.5, 1.0, 3.0])
def test_the_temperature_is_the_one_by_which_the_model_was_made_too_sure(sure: float, rng: np.random.Generator) -> None:
    labels, p = made(rng, n=20_000, sure=sure)
    assert fit_temperature(labels, p) == pytest.approx(sure, rel=0.05)


def test_the_temperature_is_the_one_that_gradient_descent_finds(rng: np.random.Generator) -> None:
    labels, p = made(rng, sure=2.0)
    logits, target = torch.from_numpy(np.log(p)), torch.from_numpy(labels)
    logarithm = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logarithm], max_iter=200, tolerance_grad=1e-12)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(logits / logarithm.exp(), target)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert fit_temperature(labels, p) == pytest.approx(float(logarithm.detach().exp()), rel=1e-3)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=5).filter(lambda x: sum(x) > 0.1), st.floats(0.05, 20))
def test_a_temperature_keeps_the_order_of_the_classes_and_the_sum(values: list[float], temperature: float) -> None:
    p = np.array([values]) / sum(values)
    scaled = apply_temperature(p, temperature)
    assert scaled.sum() == pytest.approx(1)
    order = np.argsort(p[0], kind="stable")
    assert (np.diff(scaled[0][order]) >= -1e-12).all()
    assert scaled[0, p[0].argmax()] == scaled.max()


def test_a_model_that_was_right_on_a_few_images_does_not_become_certain() -> None:
    labels = np.array([0, 1, 0, 1])
    assert fit_temperature(labels, np.array([[0.8, 0.2], [0.3, 0.7], [0.9, 0.1], [0.4, 0.6]])) == 1


def test_reliability_of_single_images_is_wilsons(rng: np.random.Generator) -> None:
    scores, happened = rng.random(300), rng.random(300) < 0.4
    for point in reliability(scores, happened, np.arange(300)):
        hits = round(point["frequency"] * point["images"])
        assert (point["low"], point["high"]) == pytest.approx(proportion_confint(hits, point["images"], method="wilson"))
        assert point["from"] <= point["confidence"] <= point["to"]


def test_images_of_one_patient_that_agree_count_once(rng: np.random.Generator) -> None:
    scores = np.repeat(rng.random(40), 5)
    happened = np.repeat(rng.random(40) < 0.5, 5)
    (grouped,) = reliability(scores, happened, np.repeat(np.arange(40), 5), bins=1)
    (alone,) = reliability(scores, happened, np.arange(200), bins=1)
    once = proportion_confint(happened[::5].sum(), 40, method="wilson")
    assert grouped["high"] - grouped["low"] == pytest.approx(once[1] - once[0], rel=0.05)
    assert alone["high"] - alone["low"] < 0.55 * (grouped["high"] - grouped["low"])
