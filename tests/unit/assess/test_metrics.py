"""Figures of a classifier: against scikit-learn as an independent implementation, and against counts done by hand."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from isograft.assess.matrices import OVERALL
from isograft.assess.metrics import average_precision, confusion_matrix, pr_curve, roc_auc, roc_curve, score
from isograft.errors import IsograftError


def _sample(seed: int, n: int = 60, classes: int = 4, coarse: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Labels with every class present and probabilities with many ties."""
    draw = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), draw.integers(0, classes, n - classes)])
    raw = draw.random((n, classes)) + 0.8 * np.eye(classes)[labels] * draw.random((n, 1))
    if coarse:
        raw = np.ceil(raw * 4)
    return labels, raw / raw.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_every_figure_agrees_with_scikit_learn(seed: int, classes: int) -> None:
    labels, p = _sample(seed, classes=classes)
    predicted, names = p.argmax(axis=1), [f"c{k}" for k in range(classes)]
    result = score(labels, p, names)
    precision, recall, f1, support = oracle.precision_recall_fscore_support(labels, predicted, labels=range(classes), zero_division=0)
    expected = {
        "accuracy": oracle.accuracy_score(labels, predicted),
        "balanced_accuracy": oracle.balanced_accuracy_score(labels, predicted),
        "macro_precision": precision.mean(),
        "macro_recall": recall.mean(),
        "macro_f1": oracle.f1_score(labels, predicted, average="macro"),
        "macro_roc_auc": np.mean([oracle.roc_auc_score(labels == k, p[:, k]) for k in range(classes)]),
        "macro_pr_auc": np.mean([oracle.average_precision_score(labels == k, p[:, k]) for k in range(classes)]),
        "mcc": oracle.matthews_corrcoef(labels, predicted),
        "kappa": oracle.cohen_kappa_score(labels, predicted),
    }
    assert {key: result[key] for key in expected} == pytest.approx(expected, abs=1e-12)
    assert result["confusion_matrix"] == oracle.confusion_matrix(labels, predicted, labels=range(classes)).tolist()
    for k, name in enumerate(names):
        one = result["per_class"][name]
        assert one["images"] == support[k]
        assert [one["recall"], one["f1"]] == pytest.approx([recall[k], f1[k]], abs=1e-12)
        assert one["precision"] == (pytest.approx(precision[k], abs=1e-12) if one["predicted"] else None)
        specificity = oracle.recall_score(labels != k, predicted != k)
        assert one["specificity"] == pytest.approx(specificity, abs=1e-12)
        assert one["roc_auc"] == pytest.approx(oracle.roc_auc_score(labels == k, p[:, k]), abs=1e-12)
        assert one["pr_auc"] == pytest.approx(oracle.average_precision_score(labels == k, p[:, k]), abs=1e-12)


def test_macro_roc_auc_of_three_classes_is_scikit_learns_one_versus_rest() -> None:
    labels, p = _sample(3, classes=3)
    assert score(labels, p, "abc")["macro_roc_auc"] == pytest.approx(oracle.roc_auc_score(labels, p, multi_class="ovr"), abs=1e-12)


def test_a_case_counted_by_hand() -> None:
    # true a a a b b, predicted a a b b b: a: TP 2, FN 1, FP 0; b: TP 2, FN 0, FP 1.
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7], [0.45, 0.55]])
    result = score([0, 0, 0, 1, 1], p, ["a", "b"], ["p1", "p1", "p2", "p3", "p3"])
    assert (result["n_images"], result["n_groups"]) == (5, 3)
    assert result["confusion_matrix"] == [[2, 1], [0, 2]]
    assert result["accuracy"] == pytest.approx(4 / 5)
    assert result["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert result["per_class"]["a"] == pytest.approx(
        {
            "images": 3,
            "groups": 2,
            "predicted": 2,
            "precision": 1,
            "recall": 2 / 3,
            "f1": 0.8,
            "specificity": 1,
            "roc_auc": 5 / 6,
            "pr_auc": 11 / 12,
        }
    )
    assert result["mcc"] == pytest.approx((2 * 2 - 1 * 0) / np.sqrt(2 * 3 * 3 * 2))
    assert result["kappa"] == pytest.approx((0.8 - 0.48) / 0.52)
    assert result["reasons"] == {}


@pytest.mark.parametrize("seed", range(4))
def test_curves_agree_with_scikit_learn(seed: int) -> None:
    labels, p = _sample(seed, classes=2)
    positive, scores = labels == 1, p[:, 1]
    fpr, tpr, thresholds = oracle.roc_curve(positive, scores, drop_intermediate=False)
    curve = roc_curve(positive, scores)
    assert np.allclose(curve.x, fpr) and np.allclose(curve.y, tpr) and np.array_equal(curve.thresholds, thresholds)
    precision, recall, _ = oracle.precision_recall_curve(positive, scores)
    curve = pr_curve(positive, scores)
    assert np.allclose(curve.x[::-1], recall) and np.allclose(curve.y[::-1], precision)


def test_a_class_without_images_is_null_with_a_reason_and_left_out_of_the_means() -> None:
    labels, p = _sample(0, classes=3)
    p = np.column_stack([p, np.full(len(p), 0.0)])
    p[0] = [0.1, 0.1, 0.1, 0.7]
    result = score(labels, p, ["a", "b", "c", "rare"])
    rare = result["per_class"]["rare"]
    assert [rare[key] for key in ("precision", "recall", "f1", "roc_auc", "pr_auc")] == [None] * 5
    assert rare["specificity"] == pytest.approx(1 - 1 / len(labels))
    assert "no image of class 'rare'" in result["reasons"]["per_class.rare.recall"]
    assert result["macro_classes"] == ["a", "b", "c"]
    assert result["macro_f1"] == pytest.approx(np.mean([result["per_class"][name]["f1"] for name in "abc"]))
    assert result["macro_roc_auc"] is not None
    json.dumps(result, allow_nan=False)


def test_one_class_only_gives_null_areas_and_agreement_with_reasons() -> None:
    result = score([1, 1, 1], [[0.2, 0.8], [0.6, 0.4], [0.1, 0.9]], ["a", "b"])
    for key in ("macro_roc_auc", "macro_pr_auc", "macro_specificity", "mcc", "kappa"):
        assert result[key] is None and "every image is of class 'b'" in result["reasons"][key]
    assert result["accuracy"] == pytest.approx(2 / 3)
    json.dumps(result, allow_nan=False)


def test_a_class_never_predicted_has_no_precision_and_counts_as_zero_in_the_mean() -> None:
    result = score([0, 0, 1], [[0.9, 0.1], [0.9, 0.1], [0.8, 0.2]], ["a", "b"])
    assert result["per_class"]["b"]["precision"] is None
    assert "no image was predicted as 'b'" in result["reasons"]["per_class.b.precision"]
    assert result["macro_precision"] == pytest.approx(2 / 3 / 2)
    assert (result["mcc"], result["kappa"]) == (0.0, pytest.approx(0.0))


@pytest.mark.parametrize(
    ("labels", "p", "words"),
    [
        ([], np.zeros((0, 2)), "no image to score"),
        ([0, 1], [[0.5, 0.5]], "do not fit"),
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]], "label 2"),
        ([0, 1], [[0.5, 0.5], [np.nan, 0.5]], "no probabilities"),
        ([0, 1], [[0.5, 0.5], [0.9, 0.9]], "no probabilities"),
    ],
)
def test_bad_input_is_one_clear_error(labels: list[int], p: np.ndarray, words: str) -> None:
    with pytest.raises(IsograftError, match=words):
        score(labels, p, ["a", "b"])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_figures_do_not_depend_on_the_order_of_images_or_classes(seed: int, classes: int) -> None:
    labels, p = _sample(seed, n=20, classes=classes, coarse=False)
    names = [f"c{k}" for k in range(classes)]
    draw = np.random.default_rng(seed)
    rows, columns = draw.permutation(len(labels)), draw.permutation(classes)
    place = np.argsort(columns)
    other = score(place[labels[rows]], p[rows][:, columns], [names[k] for k in columns])
    for key, value in score(labels, p, names).items():
        if key.startswith(("macro_", "acc", "bal", "mcc", "kappa")) and key != "macro_classes":
            assert other[key] == pytest.approx(value, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=30))
def test_areas_stay_in_range_and_turning_scores_round_turns_the_roc_area_round(pairs: list[tuple[bool, int]]) -> None:
    positive = np.array([flag for flag, _ in pairs])
    scores = np.array([value for _, value in pairs], dtype=float)
    area, precision = roc_auc(positive, scores), average_precision(positive, scores)
    if positive.all() or not positive.any():
        assert area is None and precision is None
        return
    assert area is not None and precision is not None
    assert 0 <= area <= 1 and 0 < precision <= 1
    assert roc_auc(positive, -scores) == pytest.approx(1 - area)
    curve = roc_curve(positive, scores)
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(area)


def _agreement(matrix: np.ndarray) -> tuple[float, float]:
    return tuple(float(OVERALL[name](matrix[None])[0]) for name in ("mcc", "kappa"))


def test_agreement_of_a_perfect_matrix_is_one_and_of_a_constant_answer_zero() -> None:
    perfect, constant = np.diag([3, 4, 5]), np.array([[3, 0], [4, 0]])
    assert _agreement(perfect) == (pytest.approx(1), pytest.approx(1))
    assert _agreement(constant) == (0.0, pytest.approx(0.0))
    assert confusion_matrix(np.array([0, 1]), np.array([1, 1]), 2).tolist() == [[0, 1], [0, 1]]


def test_assess_does_not_import_torch() -> None:
    code = "import sys, isograft.assess.metrics as m; m.score([0, 1], [[1, 0], [0, 1]], 'ab'); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
