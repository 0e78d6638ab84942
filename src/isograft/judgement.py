"""How a model's answers are to be taken: with which temperature, thresholds and prediction sets, and when not at all.

Everything here is fitted once, when a classifier is trained, on images it was not trained on, and travels in its passport. A model without
such images carries no judgement, and says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from isograft.assess import calibration, conformal
from isograft.assess.domain import Domain, Known, fit_domain
from isograft.assess.intervals import FEWEST_GROUPS
from isograft.assess.operating import SENSITIVITY, SPECIFICITY, choose_threshold, counts_at, known_ratios, wanted_points
from isograft.inference import Answer, probabilities, softmax, votes

if TYPE_CHECKING:
    from isograft.cases import Cases
    from isograft.train.evidence import Evidence

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

FEWEST_IMAGES = 20
EMPTY = "none"
"""How a set without a class is written: the image fits no class well."""

SETS: conformal.Method = "lac_per_class"
"""The sets that `predict` writes: a rare class keeps its promise, too."""

_UNKNOWN = "the model was made by an earlier version, which calibrated nothing; finetune it again"


@dataclass(frozen=True)
class Point:
    """A named threshold.

    Attributes:
        name: What people call it.
        of: The class that counts as positive.
        rule: What it was to reach, in words.
        threshold: An image is positive when the calibrated probability of the class is at least this; None where fewer than 8 held-out
            groups were of the kind that the rule is about.
        by_hand: Whether somebody asked for it.
        held_out: What it reached on the held-out images: `sensitivity`, `specificity`, `images`, `positives`.
    """

    name: str
    of: str
    rule: str
    threshold: float | None
    by_hand: bool
    held_out: dict[str, Any]


@dataclass(frozen=True)
class Judgement:
    """How answers are to be taken.

    Attributes:
        missing: Why there is nothing but the answers themselves; empty where there is.
        fitted_on: The held-out images, in words.
        images: How many.
        groups: Of how many groups.
        temperature: What logits are divided by.
        points: Named thresholds.
        sets: Rules of prediction sets by method.
        domains: One per network; empty where the embeddings of the training are not at hand.
        cases: Those embeddings.
        classes: K class names.
    """

    missing: str = ""
    fitted_on: str = ""
    images: int = 0
    groups: int = 0
    temperature: float = 1.0
    points: list[Point] = field(default_factory=list)
    sets: dict[str, conformal.Conformal] = field(default_factory=dict)
    domains: list[Domain] = field(default_factory=list)
    cases: Cases | None = None
    classes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, record: dict[str, Any], cases: Cases | None) -> Judgement:
        """The judgement in a passport, with the embeddings it compares to."""
        if not record or "missing" in record:
            return cls(missing=record.get("missing", _UNKNOWN))
        return cls(
            fitted_on=record["fitted_on"],
            images=record["images"],
            groups=record["groups"],
            temperature=record["temperature"],
            points=[Point(**point) for point in record["operating_points"]],
            sets={name: conformal.Conformal.of(rule) for name, rule in record["conformal"].items()},
            domains=[Domain.of(one) for one in record["domain"]] if cases is not None else [],
            cases=cases,
            classes=record["classes"],
        )

    @cached_property
    def _known(self) -> list[Known]:
        """Per network the embeddings of the images it was trained on, made ready to compare with."""
        cases = self.cases
        return [] if cases is None else [Known(cases.embeddings[cases.trained(m), m]) for m in range(len(self.domains))]

    @property
    def always_held(self) -> list[str]:
        """Classes that every prediction set holds, as too few images of them were held out."""
        rule = self.sets.get(SETS)
        return [] if rule is None else [name for name, t in zip(self.classes, rule.thresholds, strict=True) if not np.isfinite(t)]

    def probabilities(self, answers: Sequence[Answer]) -> Floats:
        """Calibrated probabilities of N answers: float64 (N, K)."""
        return probabilities(answers, self.temperature)

    def votes(self, answers: Sequence[Answer]) -> Floats:
        """What thresholds and sets are applied to: float64 (N, K), the probabilities of one network, or the median of several answers."""
        return votes(answers, self.temperature)

    def distances(self, answers: Sequence[Answer]) -> Floats | None:
        """How far out of domain each image is, 1 is the threshold: float64 (N,), the mean over networks; None where that is unknown."""
        if not self.domains:
            return None
        embeddings = np.stack([answer.embeddings for answer in answers])
        each = [domain.relative(known, embeddings[:, m]) for m, (domain, known) in enumerate(zip(self.domains, self._known, strict=True))]
        together: Floats = np.mean(each, axis=0)
        return together

    def held(self, votes: Floats, ids: Sequence[str]) -> Mask | None:
        """Which classes the prediction set of each image holds: bool (N, K) of `votes` float64 (N, K) and N ids; None where unknown."""
        rule = self.sets.get(SETS)
        return None if rule is None else rule.sets(votes, ids)

    def verdicts(self, answers: Sequence[Answer], ids: Sequence[str]) -> dict[str, tuple[Any, list[Any] | None]]:
        """How far each of N answers can be relied on, as columns.

        Args:
            answers: N answers.
            ids: N ids.

        Returns:
            Column name to its type and N values, None where unknown: see `isograft.predictions.judged`.
        """
        distances = self.distances(answers) if len(answers) else None
        p = self.votes(answers) if len(answers) else np.zeros((0, len(self.classes)))
        outside = None if distances is None else distances > 1
        held = self.held(p, ids)
        names = np.array([name.replace("|", r"\|") for name in self.classes], dtype=object)
        listed = None if held is None else ["|".join(names[row]) or EMPTY for row in held]
        unsure = None if held is None else (held.sum(axis=1) != 1) | (False if outside is None else outside)
        columns: dict[str, tuple[Any, list[Any] | None]] = {
            "prediction_set": (pl.String, listed),
            "abstain": (pl.Boolean, None if unsure is None else unsure.tolist()),
            "out_of_domain": (pl.Boolean, None if outside is None else outside.tolist()),
            "domain_distance": (pl.Float64, None if distances is None else distances.tolist()),
        }
        for point in self.points:
            if point.by_hand:
                scores = p[:, self.classes.index(point.of)]
                columns[point.name] = (pl.Boolean, None if point.threshold is None else (scores >= point.threshold).tolist())
        return columns


def judge(evidence: Evidence, classes: Sequence[str], points: Sequence[str], coverage: float) -> dict[str, Any]:
    """Fit a judgement, JSON-ready.

    Args:
        evidence: What the model says of images it was not trained on.
        classes: K class names.
        points: Operating points asked for, as text.
        coverage: Share of images whose class a prediction set shall hold.

    Raises:
        IsograftError: An operating point cannot be read or names an unknown class.
    """
    wanted = wanted_points(points, classes)
    if evidence.missing:
        return {"missing": evidence.missing}
    found, groups = len(evidence.labels), len(np.unique(evidence.groups))
    if found < FEWEST_IMAGES or groups < FEWEST_GROUPS:
        few = f"{found} labeled images of {groups} groups (patients)"
        return {"missing": f"only {few} were kept from the training, and {FEWEST_IMAGES} of {FEWEST_GROUPS} are needed; label more"}
    if len(np.unique(evidence.labels)) < 2:
        return {"missing": "all labeled images that were kept from the training are of one class; label more of the others"}
    labels, raw = evidence.labels, softmax(evidence.logits)
    temperature = calibration.fit_temperature(labels, raw)
    p = softmax(evidence.logits.astype(np.float64) / temperature)
    chosen = []
    for one in wanted:
        positive, scores = labels == classes.index(one.of), p[:, classes.index(one.of)]
        kind = positive if one.measure == SENSITIVITY else ~positive
        enough = len(np.unique(evidence.groups[kind])) >= FEWEST_GROUPS
        threshold = choose_threshold(scores, positive, one.measure, one.at_least) if enough else None
        if threshold is None and not one.by_hand:
            continue
        reached: dict[str, float | None] = {"images": found, "positives": int(positive.sum())}
        if threshold is not None:
            shares = known_ratios(counts_at(scores, positive, threshold))
            reached |= {name: shares[name] for name in (SENSITIVITY, SPECIFICITY)}
        chosen.append(
            {"name": one.name, "of": one.of, "rule": one.rule, "threshold": threshold, "by_hand": one.by_hand, "held_out": reached}
        )
    rules = {
        method: conformal.fit(p, labels, evidence.groups, evidence.ids.tolist(), coverage, method).record() for method in conformal.METHODS
    }
    return {
        "fitted_on": evidence.fitted_on,
        "images": found,
        "groups": groups,
        "classes": list(classes),
        "temperature": temperature,
        "figures": {"uncalibrated": calibration.calibration_scores(labels, raw), "calibrated": calibration.calibration_scores(labels, p)},
        "operating_points": chosen,
        "conformal": rules,
        "domain": [fit_domain(one.apart).record() for one in evidence.embedded],
    }
