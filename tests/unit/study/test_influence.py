"""What every tested group adds to a figure."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, matthews_corrcoef, roc_auc_score

from isograft.assess.metrics import score
from isograft.study.influence import FIGURES, influence


def _sample(seed: int, classes: int, images: int = 40, groups: int = 9):
    draw = np.random.default_rng(seed)
    raw = draw.dirichlet(np.ones(classes), images).round(1) + 0.01  # rounded, so that scores tie
    return draw.integers(0, classes, images), raw / raw.sum(axis=1, keepdims=True), draw.integers(0, groups, images).astype(str)


def _scored(truth: np.ndarray, p: np.ndarray) -> np.ndarray:
    figures = score(truth, p, [str(k) for k in range(p.shape[1])])
    return np.array([np.nan if figures[name] is None else figures[name] for name in FIGURES])


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("seed", range(5))
def test_figures_and_every_left_out_figure_are_those_of_scoring_the_images_left(seed: int, classes: int) -> None:
    truth, p, groups = _sample(seed, classes)
    found = influence(truth, p, groups)
    left_out = np.array([_scored(truth[groups != name], p[groups != name]) for name in found.groups])
    count = len(found.groups)
    assert found.figures == pytest.approx(_scored(truth, p), nan_ok=True)
    assert found.shares == pytest.approx(np.sqrt((count - 1) / count) * (left_out.mean(axis=0) - left_out), abs=1e-12, nan_ok=True)


def test_left_out_figures_agree_with_scikit_learn() -> None:
    truth, p, groups = _sample(7, 2)
    found = influence(truth, p, groups, ("macro_f1", "macro_roc_auc", "mcc"))
    kept = [groups != name for name in found.groups]
    others = np.array(
        [
            [
                f1_score(truth[k], p[k].argmax(axis=1), average="macro"),
                (roc_auc_score(truth[k], p[k, 1]) + roc_auc_score(1 - truth[k], p[k, 0])) / 2,
                matthews_corrcoef(truth[k], p[k].argmax(axis=1)),
            ]
            for k in kept
        ]
    )
    assert np.diff(found.shares, axis=0) == pytest.approx(-np.sqrt(1 - 1 / len(kept)) * np.diff(others, axis=0), abs=1e-12)


def test_shares_of_the_accuracy_square_to_the_variance_of_a_mean_where_every_group_is_one_image() -> None:
    truth, p, _ = _sample(3, 2)
    found = influence(truth, p, np.arange(40), ("accuracy",))
    right = (p.argmax(axis=1) == truth).astype(float)
    assert (found.shares**2).sum() == pytest.approx(right.var(ddof=1) / 40)


def test_a_figure_that_does_not_exist_without_some_group_has_no_shares() -> None:
    truth, groups = np.array([0, 0, 0, 1]), np.array(["a", "b", "c", "d"])
    found = influence(truth, np.full((4, 2), 0.5), groups, ("accuracy", "macro_roc_auc"))
    assert np.isfinite(found.shares[:, 0]).all() and np.isnan(found.shares[:, 1]).all()


def test_a_single_group_has_no_shares_at_all() -> None:
    assert np.isnan(influence([0, 1], [[0.9, 0.1], [0.2, 0.8]], ["a", "a"]).shares).all()
