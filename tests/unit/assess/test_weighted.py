"""Areas of weighted samples against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from isograft.assess.weighted import areas, rank


def test_the_area_is_that_of_scikit_learn_for_weights_and_ties() -> None:
    draw = np.random.default_rng(0)
    score, positive, weights = draw.integers(0, 9, 300).astype(float), draw.random(300) < 0.3, draw.integers(0, 4, 300).astype(float)
    roc, pr = areas(rank(score, positive, np.arange(300)), weights[:, None])
    assert roc[0] == pytest.approx(roc_auc_score(positive, score, sample_weight=weights))
    assert pr[0] == pytest.approx(average_precision_score(positive, score, sample_weight=weights))
