import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from isograft.train.probe import DEFAULT_STRENGTH, fit_probe


def made(per_class: int, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, 12)) * 2
    labels = np.repeat(np.arange(classes), per_class)
    features = (centres[labels] + rng.normal(size=(len(labels), 12))).astype(np.float32) * 5 + 3
    return features, labels.astype(np.int64), np.array([f"g{number}" for number in range(len(labels))], dtype=object)


def test_the_linear_layer_gives_the_probabilities_of_the_scaled_regression() -> None:
    features, labels, groups = made(5)
    solved = fit_probe(features, labels, groups, 0)
    logits = solved.logits(features)
    ours = np.exp(logits - logits.max(1, keepdims=True))
    ours /= ours.sum(1, keepdims=True)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=solved.strength, max_iter=500, class_weight="balanced")).fit(
        features, labels
    )
    np.testing.assert_allclose(ours, theirs.predict_proba(features), atol=2e-3)


def test_two_classes_give_two_rows_with_the_same_odds() -> None:
    features, labels, groups = made(6, classes=2)
    solved = fit_probe(features, labels, groups, 0)
    assert solved.weight.shape == (2, 12)
    np.testing.assert_allclose(solved.weight[0].numpy(), -solved.weight[1].numpy())
    assert (solved.logits(features).argmax(1) == labels).mean() > 0.9


def test_few_labels_use_the_default_strength_and_many_choose_one() -> None:
    assert fit_probe(*made(5), 0).strength == DEFAULT_STRENGTH
    features, labels, groups = made(30)
    assert fit_probe(features, labels, groups, 0).strength != DEFAULT_STRENGTH


def test_rare_classes_are_not_drowned() -> None:
    rng = np.random.default_rng(1)
    labels = np.array([0] * 95 + [1] * 5, dtype=np.int64)
    features = rng.normal(size=(100, 4)).astype(np.float32)
    features[labels == 1] += 1.5
    predicted = fit_probe(features, labels, np.arange(100).astype(str).astype(object), 0).logits(features).argmax(1)
    assert (predicted[labels == 1] == 1).mean() >= 0.6
