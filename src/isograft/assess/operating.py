"""Named thresholds: chosen on images kept from the training, reported on the test."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from isograft.errors import IsograftError

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

Measure = Literal["sensitivity", "specificity"]

SENSITIVITY: Measure = "sensitivity"
SPECIFICITY: Measure = "specificity"
USUAL = 0.95
COUNTS = ("tp", "fp", "tn", "fn")
_TOLD = ("id", "uri", "label", "group", "status", "reason", "leaked", "target", "picture", "array", "images", "unanswered")
TAKEN = frozenset((*_TOLD, "predicted", "prediction_set", "abstain", "out_of_domain", "domain_distance"))
"""Columns of predictions, beside which each point asked for has its own."""

_NO_IMAGE = float(np.nextafter(1.0, 2.0))  # no probability reaches it
_TEXT = re.compile(r"\s*(?P<name>[^:]+?)\s*:\s*(?P<of>.+?)\s+(?P<measure>sensitivity|specificity)\s*(?:>=|≥)\s*(?P<value>[0-9.]+)\s*")


@dataclass(frozen=True)
class Wanted:
    """What a threshold is to reach.

    Attributes:
        name: What people call the point, for example `screening`.
        of: The class that counts as positive.
        measure: `sensitivity` or `specificity`.
        at_least: Its least value, in (0, 1].
        by_hand: Whether somebody asked for it; `predict` writes a column for these.
    """

    name: str
    of: str
    measure: Measure
    at_least: float
    by_hand: bool = True

    @property
    def rule(self) -> str:
        """In words: `sensitivity >= 0.95`."""
        return f"{self.measure} >= {self.at_least:g}"


def parse_point(text: str, classes: Sequence[str]) -> Wanted:
    """Read `screening: melanoma sensitivity >= 0.95`.

    Raises:
        IsograftError: It is not of this form, or names a class that there is not.
    """
    match = _TEXT.fullmatch(text)
    try:
        value = float(match["value"]) if match else 0.0
    except ValueError:
        value = 0.0
    if match is None or not 0 < value <= 1:
        raise IsograftError(
            f"--operating-point '{text}' is not 'NAME: CLASS sensitivity >= SHARE' (or specificity) with a share above 0 and at most 1; "
            "write for example 'screening: melanoma sensitivity >= 0.95'"
        )
    if match["of"] not in classes:
        raise IsograftError(f"--operating-point '{text}' names the class '{match['of']}'; the classes are {', '.join(classes)}")
    return Wanted(match["name"], match["of"], SENSITIVITY if match["measure"] == SENSITIVITY else SPECIFICITY, value)


def wanted_points(texts: Sequence[str], classes: Sequence[str]) -> list[Wanted]:
    """The points asked for, then for every class one to rule it out and one to rule it in.

    Of two classes, too, each gets both, although ruling out one is ruling in the other, at thresholds that sum to 1: nothing in the data
    says which of the two is the finding.

    Raises:
        IsograftError: A text cannot be read, or a name comes twice or is that of another column of predictions.
    """
    asked = [parse_point(text, classes) for text in texts]
    usual = [
        Wanted(f"{words} {name}", name, measure, USUAL, by_hand=False)
        for name in classes
        for words, measure in (("rule out", SENSITIVITY), ("rule in", SPECIFICITY))
    ]
    names, taken = [one.name for one in asked], {one.name for one in usual}
    if clashing := [name for name in names if name in TAKEN or name.startswith("p_")]:
        raise IsograftError(f"--operating-point: the name '{clashing[0]}' is that of another column of predictions; choose another name")
    if twice := [name for name in names if names.count(name) > 1 or name in taken]:
        why = "is the name of a point that every model has" if twice[0] in taken else "comes twice"
        raise IsograftError(f"--operating-point: the name '{twice[0]}' {why}; name each point differently")
    return asked + usual


def choose_threshold(scores: Floats, positive: Mask, measure: Measure, at_least: float) -> float | None:
    """The threshold that reaches a wanted sensitivity with the highest specificity, or the reverse.

    An image counts as positive when its score is at least the threshold, which lies midway between two scores that occur.

    Args:
        scores: float64 (N,), higher means more likely positive.
        positive: bool (N,).
        measure: What is to be reached.
        at_least: Its least value, in (0, 1].

    Returns:
        The threshold, in [0, 1] for probabilities, or the number above 1 where only that reaches the specificity; None without images of
        the kind that the measure is about.
    """
    about = np.sort(scores[positive] if measure == "sensitivity" else scores[~positive])
    if not len(about):
        return None
    needed = max(1, int(np.ceil(at_least * len(about) - 1e-9)))
    if measure == "sensitivity":
        strictest = about[len(about) - needed]  # the lowest score that must still count as positive
        return _between(float(scores[scores < strictest].max(initial=0.0)), float(strictest))
    highest = float(about[needed - 1])  # the highest score that must count as negative
    return _NO_IMAGE if highest >= 1 else _between(highest, float(scores[scores > highest].min(initial=1.0)))


def _between(low: float, high: float) -> float:
    """Midway, and above `low` even where floating point has nothing between the two."""
    middle = (low + high) / 2
    return middle if middle > low else high


def counts_at(scores: Floats, positive: Mask, threshold: float) -> dict[str, int]:
    """`tp`, `fp`, `tn`, `fn`: images by truth and by being called positive."""
    called = scores >= threshold
    return {
        "tp": int((called & positive).sum()),
        "fp": int((called & ~positive).sum()),
        "tn": int((~called & ~positive).sum()),
        "fn": int((~called & positive).sum()),
    }


def ratios(tp: Floats, fp: Floats, tn: Floats, fn: Floats) -> dict[str, Floats]:
    """Figures of counts, elementwise; NaN where there is nothing to divide by.

    Returns:
        `sensitivity`, `specificity`, `ppv`, `npv`, and the likelihood ratios `lr_positive` = sensitivity / (1 - specificity) and
        `lr_negative` = (1 - sensitivity) / specificity.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity, specificity = tp / (tp + fn), tn / (tn + fp)
        found = {
            "sensitivity": sensitivity,
            "specificity": specificity,
            "ppv": tp / (tp + fp),
            "npv": tn / (tn + fn),
            "lr_positive": sensitivity / (1 - specificity),
            "lr_negative": (1 - sensitivity) / specificity,
        }
    return {name: np.where(np.isfinite(value), value, np.nan) for name, value in found.items()}


def known_ratios(counts: Mapping[str, int]) -> dict[str, float | None]:
    """The figures of `ratios` of what `counts_at` gives; None where there is nothing to divide by."""
    found = ratios(*(np.array(float(counts[name])) for name in COUNTS))
    return {name: None if np.isnan(value) else float(value) for name, value in found.items()}


def at_prevalence(sensitivity: float, specificity: float, prevalence: float) -> dict[str, float | None]:
    """Predictive values where the class has another share than in the test (Bayes).

    Args:
        sensitivity: In [0, 1].
        specificity: In [0, 1].
        prevalence: Share of the class among the patients, in (0, 1).

    Returns:
        `ppv` and `npv`; None where no image would be called positive, or negative.
    """
    hits, alarms = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    passes, misses = specificity * (1 - prevalence), (1 - sensitivity) * prevalence
    return {"ppv": hits / (hits + alarms) if hits + alarms else None, "npv": passes / (passes + misses) if passes + misses else None}


def decision_curve(scores: Floats, positive: Mask, thresholds: Floats) -> dict[str, list[float]]:
    """Net benefit at every threshold probability (Vickers and Elkin 2006, doi:10.1177/0272989X06295361).

    Net benefit is the share of images treated rightly less the share treated wrongly, the latter weighed by the odds of the threshold: the
    threshold says how many needless treatments one missed case is worth. Treating no one has 0.

    Args:
        scores: float64 (N,) calibrated probabilities.
        positive: bool (N,).
        thresholds: float64 (T,) in (0, 1).

    Returns:
        `threshold`, `model` (treat where the score reaches the threshold), `all` (treat everyone).
    """
    odds, share = thresholds / (1 - thresholds), float(positive.mean())
    called = scores[None, :] >= thresholds[:, None]
    model = (called & positive).mean(axis=1) - odds * (called & ~positive).mean(axis=1)
    return {"threshold": thresholds.tolist(), "model": model.tolist(), "all": (share - odds * (1 - share)).tolist()}
