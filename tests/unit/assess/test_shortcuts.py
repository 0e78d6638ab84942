"""A linear probe finds what tells the label, and says nothing where nothing does."""

from __future__ import annotations

import numpy as np
import pytest

from isograft.assess.shortcuts import FOLDS, probe


def data(seed: int, count: int = 200, classes: int = 2, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    draw = np.random.default_rng(seed)
    labels = np.array([f"class{number % classes}" for number in range(count)], dtype=object)
    features = draw.normal(0, 1, (count, 12)).astype(np.float32)
    features[labels == "class0", 3] += shift
    groups = np.array([f"p{number // 2}" for number in draw.permutation(count)], dtype=object)
    return features, labels, groups, [f"{seed}-{number}" for number in range(count)]


def test_features_without_information_are_not_warned_of() -> None:
    """The lower end of the interval lies above 0.6 in at most one of forty worlds without information."""
    lows = [found.low for seed in range(40) if (found := probe("x", *data(seed)))]
    assert len(lows) == 40 and sum(low > 0.6 for low in lows) <= 1 and np.mean(lows) < 0.5


@pytest.mark.parametrize("classes", [2, 4])
def test_a_feature_that_gives_a_class_away_is_found(classes: int) -> None:
    found = probe("x", *data(0, classes=classes, shift=6.0))
    assert found is not None and found.low > (0.9 if classes == 2 else 0.6)
    assert found.low <= found.auc <= found.high and found.chance == 1 / classes


def test_the_order_of_the_rows_changes_nothing() -> None:
    features, labels, groups, keys = data(1, shift=1.0)
    turned = np.random.default_rng(5).permutation(len(keys))
    again = probe("x", features[turned], labels[turned], groups[turned], [keys[row] for row in turned])
    assert again == probe("x", features, labels, groups, keys)


def test_a_group_that_repeats_itself_gives_no_advantage() -> None:
    """Groups are recognised by their own features, but none stands on both sides."""
    draw = np.random.default_rng(3)
    groups = np.repeat([f"p{number}" for number in range(60)], 8).astype(object)
    labels = np.repeat(draw.permutation(["a", "b"] * 30), 8).astype(object)
    features = np.repeat(draw.normal(0, 1, (60, 40)), 8, axis=0).astype(np.float32) + draw.normal(0, 0.01, (480, 40)).astype(np.float32)
    found = probe("x", features, labels, groups, [str(number) for number in range(480)])
    assert found is not None and found.low < 0.6


def test_classes_with_too_few_groups_are_not_judged() -> None:
    features, labels, groups, keys = data(2)
    few = np.where(labels == "class1", "p-same", groups)
    assert probe("x", features, labels, few, keys) is None
    rare = np.where(np.arange(len(labels)) < FOLDS - 1, "rare", labels).astype(object)
    found = probe("x", features, rare, groups, keys)
    assert found is not None and found.chance == 0.5 and found.images == len(labels) - (FOLDS - 1)
