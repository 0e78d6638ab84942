"""Every figure of an evaluation, as metrics.json holds it."""

from __future__ import annotations

from typing import Any

import numpy as np

from isograft.assess import calibration, conformal
from isograft.assess.intervals import RESAMPLES, Resampling, bca, exact, intervals
from isograft.assess.metrics import score
from isograft.assess.operating import at_prevalence, decision_curve
from isograft.assess.subgroups import partitions, subgroups
from isograft.assess.thresholded import figures_at
from isograft.data.manifest import SCHEMA
from isograft.evaluation.tested import Tested
from isograft.settings import EvaluateSettings

_CURVE = np.arange(0.01, 1.0, 0.01)  # threshold probabilities of a decision curve
_MOST_POINTS = 200  # of a risk-coverage curve


def figures(tested: Tested, settings: EvaluateSettings) -> dict[str, Any]:
    """Score the answers, give each figure its interval, and see whether what the judgement promised holds.

    Returns:
        What `score` gives, and `intervals`, `judgement`, `calibration`, `operating_points`, `decision_curves`, `conformal`,
        `risk_coverage`, `out_of_domain`, `abstained`, `subgroups` and `subgroups_left_out` (why a column makes none); None where the model
        carries no judgement for it (docs/reference/metrics.md).
    """
    labels, p, classes, groups = tested.labels, tested.probabilities, tested.classes, tested.groups
    judgement = tested.judgement
    curves = {name: decision_curve(p[:, k], labels == k, _CURVE) for k, name in enumerate(classes) if 0 < (labels == k).sum() < len(labels)}
    return score(labels, p, classes, groups) | {
        "intervals": intervals(labels, p, classes, groups),
        "judgement": tested.model.passport.judgement if not judgement.missing else {"missing": judgement.missing},
        "calibration": _calibration(tested),
        "operating_points": _points(tested, settings.prevalences),
        "decision_curves": curves,
        "conformal": _sets(tested),
        "risk_coverage": _thinned(conformal.risk_coverage(labels, p)),
        **_relied_on(tested),
        "subgroups": subgroups(labels, p, classes, groups, _columns(tested), intervals),
        "subgroups_left_out": partitions(_columns(tested), labels, groups)[1],
    }


def _calibration(tested: Tested) -> dict[str, Any]:
    """Before and after: how far the probabilities can be taken at their word."""
    labels, p, groups = tested.labels, tested.probabilities, tested.groups
    judgement = tested.judgement

    def top(q: Any) -> list[dict[str, Any]]:
        return calibration.reliability(q.max(axis=1), q.argmax(axis=1) == labels, groups)

    found: dict[str, Any] = {
        "temperature": None if judgement.missing else judgement.temperature,
        "fitted_on": None if judgement.missing else judgement.fitted_on,
        "uncalibrated": None,
        "reliability": {"bins": top(p), "uncalibrated_bins": None},
        "per_class": {
            name: {"bins": calibration.reliability(p[:, k], labels == k, groups)}
            for k, name in enumerate(tested.classes)
            if (labels == k).any()
        },
    }
    if not judgement.missing:
        raw = np.stack([answer.probabilities() for answer in tested.answers])
        found["uncalibrated"] = calibration.calibration_scores(labels, raw)
        found["reliability"]["uncalibrated_bins"] = top(raw)
    return found


def _points(tested: Tested, prevalences: dict[str, float]) -> list[dict[str, Any]]:
    """Every named threshold of the model on the tested images."""
    found = []
    for point in tested.judgement.points:
        k = tested.classes.index(point.of)
        positive = tested.labels == k
        entry: dict[str, Any] = {"name": point.name, "class": point.of, "rule": point.rule, "threshold": point.threshold}
        entry |= {"by_hand": point.by_hand, "validation": point.held_out, "test": None, "intervals": {}, "reason": None}
        entry |= {"prevalence": prevalences.get(point.of), "at_prevalence": None}
        if point.threshold is None:
            entry["reason"] = (
                f"too few held-out images to choose it on were {'' if point.rule.startswith('sens') else 'not '}of class '{point.of}'"
            )
        elif not 0 < positive.sum() < len(positive):
            entry["reason"] = f"{'no image' if not positive.any() else 'every image'} of the test is of class '{point.of}'"
        if point.threshold is None or entry["reason"]:
            found.append(entry)
            continue
        entry |= figures_at(tested.votes[:, k], positive, point.threshold, tested.groups)
        if entry["prevalence"] is not None:
            entry["at_prevalence"] = at_prevalence(entry["test"]["sensitivity"], entry["test"]["specificity"], entry["prevalence"])
        found.append(entry)
    return found


def _sets(tested: Tested) -> dict[str, Any] | None:
    """Whether prediction sets hold the true class as often as promised."""
    rules = tested.judgement.sets
    if not rules:
        return None
    drawn = Resampling.of(tested.labels, tested.groups, len(tested.classes))
    size = np.bincount(drawn.owner).astype(np.float64)
    methods = {}
    for name, rule in rules.items():
        held = rule.sets(tested.votes, tested.ids.tolist())
        found = conformal.described(held, tested.labels, tested.classes)
        right = held[np.arange(len(held)), tested.labels]
        if drawn.alone:
            interval: dict[str, Any] | None = exact(int(right.sum()), len(right))
        else:
            hits = np.bincount(drawn.owner, weights=right)
            samples, left_out = ((w @ hits) / (w @ size) for w in (drawn.bootstrap(RESAMPLES, 0), drawn.jackknife()))
            interval = bca(found["covered"], samples, left_out, len(drawn.stratum) - len(np.unique(drawn.stratum)))
        methods[name] = found | {"interval": interval}
    return {"coverage": next(iter(rules.values())).coverage, "methods": methods}


def _relied_on(tested: Tested) -> dict[str, Any]:
    """How many images were out of domain, and how many got no single answer."""
    outside, unsure = tested.said["out_of_domain"], tested.said["abstain"]
    found: dict[str, Any] = {"out_of_domain": None, "abstained": None}
    if not outside.null_count():
        found["out_of_domain"] = {"flagged": int(outside.sum()), "share": float(outside.to_numpy().mean()), "threshold": 1.0}
    if not unsure.null_count():
        kept = ~unsure.to_numpy()
        right = tested.probabilities.argmax(axis=1) == tested.labels
        accuracy = float(right[kept].mean()) if kept.any() else None
        found["abstained"] = {"images": int((~kept).sum()), "share": float((~kept).mean()), "accuracy_of_answered": accuracy}
    return found


def _thinned(curve: dict[str, Any]) -> dict[str, Any]:
    """A risk-coverage curve with at most 200 points, the first and last among them."""
    rows = np.unique(np.linspace(0, len(curve["risk"]) - 1, _MOST_POINTS).round().astype(int))
    return curve | {name: [curve[name][row] for row in rows] for name in ("coverage", "risk")}


def _columns(tested: Tested) -> dict[str, list[Any]]:
    """The data's further columns and the source: what images may be told apart by."""
    frame, _ = tested.data.manifest.portable()
    ours = set(SCHEMA) - {"source"}
    return {name: frame[name].to_list() for name in frame.columns if name not in ours and not frame.schema[name].is_nested()}
