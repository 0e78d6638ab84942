"""The pictures about relying on a model: well formed, and their words carry the numbers."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from isograft.assess.calibration import reliability
from isograft.assess.conformal import risk_coverage
from isograft.assess.operating import decision_curve
from isograft.report.decision_figures import (
    class_reliability_figure,
    decision_curve_figure,
    forest_figure,
    reliability_figure,
    risk_at,
    risk_coverage_figure,
)
from isograft.report.figures import Picture

DRAW = np.random.default_rng(0)
P = DRAW.dirichlet([1, 1], 80)
LABELS = (DRAW.random(80) < P[:, 1]).astype(np.int64)


def bins() -> list[dict[str, float]]:
    return reliability(P[:, 1], LABELS == 1, np.arange(80))


def well_formed(picture: Picture) -> bool:
    root = ET.fromstring(base64.b64decode(picture.source.partition("base64,")[2]))
    return root.tag.endswith("svg") and len(picture.alt) > 20


def test_a_reliability_diagram_tells_each_bin_with_its_interval_and_what_was_before() -> None:
    points = bins()
    picture = reliability_figure(points, points[:2])
    assert well_formed(picture) and picture.alt.count("images") == len(points)
    one = points[0]
    assert f"sure {one['confidence']:.2f}, right {one['frequency']:.2f} ({one['low']:.2f} to {one['high']:.2f})" in picture.alt
    assert "Before calibration" in picture.alt and "Before" not in reliability_figure(points).alt


def test_the_reliability_of_a_class_names_it_and_takes_dollars_for_no_formula() -> None:
    picture = class_reliability_figure("a$b_{", bins())
    assert well_formed(picture) and picture.alt.startswith("Reliability of a$b_{ against the rest: given")


def test_a_decision_curve_tells_the_net_benefit_at_common_thresholds() -> None:
    curve = decision_curve(P[:, 1], LABELS == 1, np.arange(0.01, 1, 0.01))
    picture = decision_curve_figure("melanoma", curve)
    assert well_formed(picture)
    assert f"at 10% the model {curve['model'][9]:.3f}, treat all {curve['all'][9]:.3f}" in picture.alt


def test_risk_over_coverage_is_read_at_the_first_point_that_answers_enough() -> None:
    curve = {"coverage": [0.2, 0.5, 1.0], "risk": [0.0, 0.1, 0.3]}
    assert [risk_at(curve, share) for share in (0.1, 0.2, 0.3, 0.5, 0.51, 1.0)] == [0.0, 0.0, 0.1, 0.1, 0.3, 0.3]
    assert "50% answered, 10.0% wrong" in risk_coverage_figure(curve).alt
    assert well_formed(risk_coverage_figure(risk_coverage(LABELS, P)))
    assert well_formed(risk_coverage_figure({"coverage": [1.0], "risk": [0.0]}))


@pytest.mark.parametrize("count", [1, 2, 40])
def test_a_forest_tells_every_row_with_or_without_its_interval(count: int) -> None:
    rows = [(f"site {row}", 0.5, {"low": 0.4, "high": 0.6} if row % 2 else None) for row in range(count)]
    picture = forest_figure(rows, "accuracy", 0.6, {"low": 0.55, "high": 0.65}, "A caption.")
    assert well_formed(picture) and picture.caption == "A caption."
    assert picture.alt.count("site ") == count and ("(0.400 to 0.600)" in picture.alt) == (count > 1) and "The line: 0.600." in picture.alt
