"""The page about an evaluation: what was tested on whom, how well it went, where it failed, and what that does not show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from isograft.assess.metrics import pr_curve, roc_curve
from isograft.data.address import Address
from isograft.report import answer, comparisons, decisions
from isograft.report.checklist import filled
from isograft.report.figures import Picture, confusion_figure, curve_figure, history_figure
from isograft.report.html import page
from isograft.report.limitations import limitations
from isograft.report.mistakes import mistakes

if TYPE_CHECKING:
    from isograft.passport import Passport


@dataclass(frozen=True)
class Evaluated:
    """Everything the page is made from.

    Attributes:
        metrics: What metrics.json holds; sections that are absent or None are told of in a sentence.
        labels: int64 (N,) true class.
        probabilities: float64 (N, K).
        classes: K class names.
        names: N image names for people.
        places: Where the N images lie, for thumbnails.
        model: The model's folder name.
        lineage: The model's family tree as text.
        history: Columns of history.csv, or None.
        record: Rows of the last table: what identifies this evaluation.
        has_groups: Whether the data name patients or lesions.
        own_split: Whether this is the model's own held-out test split.
        synthetic: Whether the images are synthetic.
        left_out: Sentences about rows of the data that were not tested.
        heatmaps: Row to the picture of where the model looked, drawn beside its mistakes.
        audit: What an audit of the tested images found, as (`bad`, `warning` or `note`, sentence), the gravest first; None where there was
            none.
        passport: The model's passport, for the reporting checklist.
        columns: The data's further columns, for the reporting checklist.
    """

    metrics: dict[str, Any]
    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]
    classes: Sequence[str]
    names: Sequence[str]
    places: Sequence[Address | Path]
    model: str
    lineage: str
    history: dict[str, Sequence[Any]] | None = None
    record: list[tuple[str, str]] = field(default_factory=list)
    has_groups: bool = True
    own_split: bool = False
    synthetic: bool = False
    left_out: list[str] = field(default_factory=list)
    heatmaps: Mapping[int, Picture] | None = None
    audit: Sequence[tuple[str, str]] | None = None
    passport: Passport | None = None
    columns: Sequence[str] = ()


def evaluation_page(tested: Evaluated) -> str:
    """Make report.html of an evaluation."""
    m = tested.metrics
    roc, pr = _curves(tested)
    return page(
        "evaluation.html.jinja",
        t=tested,
        m=m,
        summary=answer.summary(tested),
        headline=answer.headline(tested),
        stamps=answer.stamps(tested),
        cards=answer.cards(tested),
        means=answer.means(tested),
        how_sure=answer.how_sure(tested),
        reasons=answer.reasons(m["reasons"]),
        no_intervals=answer.without_interval(tested),
        who=answer.who(tested),
        group_word="groups" if tested.has_groups else "groups (not known)",
        class_heads=list(answer.OF_A_CLASS.values()),
        class_rows=answer.class_rows(tested),
        confusion=confusion_figure(m["confusion_matrix"], tested.classes),
        roc=roc,
        pr=pr,
        calibration=decisions.calibration(tested),
        points=decisions.points(tested),
        curves=decisions.decision_curves(tested),
        abstention=decisions.abstention(tested),
        against=comparisons.against(tested),
        subgroups=comparisons.subgroups(tested),
        mistakes=mistakes(tested),
        history=history_figure(tested.history) if tested.history else None,
        limitations=limitations(tested),
        checklist=filled(m, tested.passport, tested.columns),
    )


def _curves(tested: Evaluated) -> tuple[Picture | None, Picture | None]:
    """ROC and precision-recall curves of the classes that have them, those with the most images first."""
    per_class = tested.metrics["per_class"]
    drawn = [name for name in tested.classes if per_class[name]["roc_auc"] is not None]
    if not drawn:
        return None, None
    drawn.sort(key=lambda name: -per_class[name]["images"])
    roc, pr, chance = {}, {}, {}
    for name in drawn:
        k = list(tested.classes).index(name)
        positive, scores = tested.labels == k, tested.probabilities[:, k]
        roc[name] = (roc_curve(positive, scores), per_class[name]["roc_auc"])
        pr[name] = (pr_curve(positive, scores), per_class[name]["pr_auc"])
        chance[name] = float(positive.mean())
    return curve_figure("roc", roc), curve_figure("pr", pr, chance)
