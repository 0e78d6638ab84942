"""What a reader needs to act on a model's answers: calibrated probabilities, thresholds, prediction sets, and when it should not answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from isograft.report.decision_figures import (
    class_reliability_figure,
    decision_curve_figure,
    reliability_figure,
    risk_at,
    risk_coverage_figure,
)
from isograft.report.html import number, percent

if TYPE_CHECKING:
    from isograft.report.evaluation import Evaluated

SCORES = {"brier": "Brier score", "log_loss": "log loss", "ece": "expected calibration error"}
SETS = {
    "lac_per_class": ("by class", "predict writes these"),
    "lac": ("smallest", "one promise for all"),
    "aps": ("adaptive", "larger for hard images"),
}
MOST_PANELS = 6
_MOST_POINTS = 8
_HELPFUL = 1e-3  # net benefit below which nobody would notice: one more patient treated rightly in a thousand


def not_judged(tested: Evaluated) -> str:
    """Why the model carries no calibration, threshold and prediction set; empty where it does."""
    judged = tested.metrics.get("judgement") or {}
    if judged and "missing" not in judged:
        return ""
    return judged.get("missing") or "it was made by a version of isograft that fitted none"


def calibration(tested: Evaluated) -> dict[str, Any]:
    """The section about probabilities: `text`, `scores` (name, before, after, interval), `figure`, `by_class`."""
    m = tested.metrics
    told = m.get("calibration") or {}
    before = told.get("uncalibrated") or {}
    intervals = (m.get("intervals") or {}).get("figures") or {}
    bins = (told.get("reliability") or {}).get("bins") or []
    earlier = (told.get("reliability") or {}).get("uncalibrated_bins")
    by_class = {name: told["per_class"][name]["bins"] for name in _by_images(m) if name in (told.get("per_class") or {})}
    if len(tested.classes) == 2:  # the other class is its mirror image
        by_class = dict(list(by_class.items())[-1:])
    return {
        "text": [*_calibrated(tested, told), *_surety(bins)],
        "scores": [(word, before.get(name), m.get(name), intervals.get(name)) for name, word in SCORES.items() if m.get(name) is not None],
        "before": bool(before),
        "figure": reliability_figure(bins, earlier) if bins else None,
        "by_class": [class_reliability_figure(name, points) for name, points in list(by_class.items())[:MOST_PANELS]],
        "classes": len(by_class),
    }


def points(tested: Evaluated) -> dict[str, Any]:
    """The section about thresholds: `text`, `tables` (rows shown, and rows folded away), `stated` (whether a prevalence was stated)."""
    given = tested.metrics.get("operating_points") or []
    asked = [point for point in given if point.get("by_hand")]
    if not given:
        missing = not_judged(tested) or "none was asked for when it was trained"
        text = [f"This model carries no named threshold, because {missing}. It answers with the class of the highest probability."]
    else:
        text = [_kept(point) for point in asked if point.get("test")]
        text += (
            [] if asked else ["For every class there are two: one to rule it out (few cases missed), one to rule it in (few false alarms)."]
        )
    rows = [_point(point) for point in sorted(given, key=lambda point: not point.get("by_hand"))]
    first = max(len(asked), _MOST_POINTS)
    return {
        "text": text,
        "tables": [part for part in (rows[:first], rows[first:]) if part],
        "stated": any(point.get("prevalence") for point in given),
    }


def decision_curves(tested: Evaluated) -> dict[str, Any]:
    """The section about net benefit: `figures`, `classes` (how many there are) and `text`."""
    given = tested.metrics.get("decision_curves") or {}
    if not given:
        return {"figures": [], "text": ["Not computed: a decision curve needs images of at least two classes."]}
    asked = [point["class"] for point in tested.metrics.get("operating_points") or [] if point.get("by_hand")]
    names = [name for name in dict.fromkeys([*asked, *_by_images(tested.metrics)]) if name in given]
    if len(tested.classes) == 2:
        names = sorted(names, key=lambda name: tested.metrics["per_class"][name]["images"])
    curves = {name: given[name] for name in names}
    figures = [decision_curve_figure(name, curves[name]) for name in names[:MOST_PANELS]]
    return {"figures": figures, "classes": len(names), "text": [_useful(name, curves[name]) for name in names[:3]]}


def abstention(tested: Evaluated) -> dict[str, Any]:
    """The section about not answering: `text`, `sets` (rows), `per_class`, `figure`."""
    m = tested.metrics
    sets, curve, text = m.get("conformal"), m.get("risk_coverage"), []
    missing = not_judged(tested)
    if sets:
        text.append(_promise(sets))
    else:
        text.append(f"This model gives no prediction sets, because {missing or 'it carries no rule for them'}.")
    if (kept := m.get("abstained")) is not None:
        some = kept["images"] < m["n_images"]
        right = f"of those it answered, {percent(kept['accuracy_of_answered'])} were right" if some else "it answered none"
        text.append(f"It gave no single answer to {kept['images']:,} of {m['n_images']:,} images (the abstain column of predict); {right}.")
    if (outside := m.get("out_of_domain")) is not None:
        text.append(
            f"{outside['flagged']:,} images ({percent(outside['share'])}) look unlike those the model was trained on; "
            "about 1\u00a0% of images of the same origin do so by chance."
        )
    else:
        text.append(f"Whether images are unlike those of the training cannot be told, because {missing or 'its folder holds no cases'}.")
    if curve:
        tenth, half, none = (percent(risk_at(curve, share)) for share in (0.9, 0.5, 1.0))
        text.append(
            f"If people decided the tenth of the images that it is least sure of, {tenth} of its answers would be wrong; if half, {half}; "
            f"if it answers all, {none}."
        )
    methods = (sets or {}).get("methods") or {}
    return {
        "text": text,
        "promised": (sets or {}).get("coverage"),
        "sets": [(*SETS.get(name, (name, "")), methods[name]) for name in dict.fromkeys([*SETS, *methods]) if name in methods],
        "classes": list(tested.classes) if methods else [],
        "figure": risk_coverage_figure(curve) if curve else None,
    }


def _calibrated(tested: Evaluated, told: Mapping[str, Any]) -> list[str]:
    if missing := not_judged(tested):
        return [f"This model carries no calibration, because {missing}. Its probabilities are those of the network as they are."]
    if (temperature := told.get("temperature")) is None:
        return []
    too = "too sure of itself" if temperature > 1 else "not sure enough"
    on = f" on {told['fitted_on']}" if told.get("fitted_on") else ""
    first = f"The network was found {too}{on}; its probabilities are corrected by a temperature of {temperature:.2f}."
    before, after = (told.get("uncalibrated") or {}).get("ece"), tested.metrics.get("ece")
    if before is None or after is None:
        return [first]
    verb = "lowered" if after < before - 5e-4 else "raised" if after > before + 5e-4 else "left"
    tail = f"from {number(before)} to {number(after)}" if verb != "left" else f"at {number(after)}"
    return [first, f"On this test the correction {verb} the calibration error {tail} (0 is perfect; chance alone makes it positive)."]


def _surety(bins: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence on the surest answers, the ones people rely on."""
    if not bins:
        return []
    last = bins[-1]
    sure, right, low, high = (percent(last[name]) for name in ("confidence", "frequency", "low", "high"))
    sentence = (
        f"Where it was surest ({sure} on average, {last['images']:,} images) it was right in {right} (95\u00a0% interval {low} to {high})"
    )
    apart = "" if last["low"] <= last["confidence"] <= last["high"] else ", which is not what it said"
    return [f"{sentence}{apart}."]


def _point(point: dict[str, Any]) -> dict[str, Any]:
    test, validation = point.get("test") or {}, point.get("validation") or {}
    between = point.get("intervals") or {}

    def cells(*names: str) -> list[tuple[Any, Any, int]]:
        return [(test.get(name), between.get(name), 2 if name.startswith("lr") else 3) for name in names]

    return {
        **{name: point.get(name) for name in ("name", "class", "rule", "threshold", "prevalence", "at_prevalence", "reason")},
        "validation": [validation.get(name) for name in ("sensitivity", "specificity")],
        "reached": cells("sensitivity", "specificity", "lr_positive", "lr_negative"),
        "meaning": cells("ppv", "npv"),
        "counts": [test.get(name) for name in ("tp", "fp", "fn", "tn")] if test else None,
    }


def _kept(point: dict[str, Any]) -> str:
    """Whether a threshold does on the test what it was chosen for."""
    measure, _, least = point["rule"].partition(" >= ")
    reached, between = point["test"][measure], (point.get("intervals") or {}).get(measure)
    other = "specificity" if measure == "sensitivity" else "sensitivity"
    other_value = point["test"][other]
    if reached is None:
        return f"‘{point['name']}’: {measure} cannot be told on this test."
    short = reached < float(least) - 1e-9
    verdict = "as chosen" if not short else "short of it"
    if short and between and between["low"] is not None and between["high"] >= float(least):
        verdict = "short of it, by no more than chance may do"
    tail = f", at a {other} of {percent(other_value)}" if other_value is not None else ""
    chosen = f"‘{point['name']}’ was chosen for a {measure} of at least {percent(float(least))} for {point['class']}"
    return f"{chosen}: the test gives {percent(reached)}{tail}, {verdict}."


def _useful(name: str, curve: Mapping[str, Sequence[float]]) -> str:
    """Where the model does better than treating all and treating none."""
    t, model, everyone = (np.asarray(curve[key]) for key in ("threshold", "model", "all"))
    better = model > np.maximum(everyone, 0) + _HELPFUL
    if not better.any():
        return f"For {name}, the model is at no threshold more useful than treating all or treating none."
    first, last = t[better][0], t[better][-1]
    holes = "" if better[(t >= first) & (t <= last)].all() else ", though not everywhere between"
    ends = f"{100 * first:.0f}\u00a0% and {100 * last:.0f}\u00a0%"
    return f"For {name}, acting on the model does more good than treating all or none at thresholds between {ends}{holes}."


def _promise(sets: Mapping[str, Any]) -> str:
    name = next(name for name in [*SETS, *sets["methods"]] if name in sets["methods"])
    one, promised = sets["methods"][name], sets["coverage"]
    between = one.get("interval")
    around = (
        f" (95\u00a0% interval {percent(between['low'])} to {percent(between['high'])})" if between and between["low"] is not None else ""
    )
    if one["covered"] >= promised:
        verdict = "the promise is kept"
    elif not between or between["low"] is None:
        verdict = "less than promised, and whether by chance cannot be told"
    elif between["high"] >= promised:
        verdict = "less than promised, by no more than chance may do"
    else:
        verdict = "less than promised: few images to fit the sets on, or other images than those"
    return (
        f"In place of one answer the model can name a set of classes that holds the true one in {percent(promised)} of images. "
        f"On this test the sets held it in {percent(one['covered'])}{around}: {verdict}. "
        f"They name {one['mean_size']:.1f} classes on average."
    )


def _by_images(metrics: dict[str, Any]) -> list[str]:
    """Classes with images, those with the most first."""
    per_class = metrics["per_class"]
    return sorted((name for name in per_class if per_class[name]["images"]), key=lambda name: -per_class[name]["images"])
