"""The page about an evaluation: what was tested on whom, how well it went, where it failed, and what that does not show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from isograft.assess.metrics import pr_curve, roc_curve
from isograft.data.address import Address
from isograft.report.figures import Picture, confusion_figure, curve_figure, history_figure, thumbnail
from isograft.report.html import page

MOST_MISTAKES = 24
_FEW = 20
_CARDS = {
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "macro_roc_auc": "ROC AUC, mean of classes",
    "macro_pr_auc": "PR AUC, mean of classes",
    "accuracy": "accuracy",
    "mcc": "Matthews correlation",
    "kappa": "Cohen's kappa",
    "macro_specificity": "specificity, mean of classes",
}

_ALWAYS = (
    "Checked for leaks: identical pixels, and groups of the same name. Not checked: near-duplicates such as resized or "
    "re-encoded copies, and patients who go by different names in different data.",
    "The class is the one with the highest probability; no other operating point was examined, "
    "nor whether the probabilities are calibrated.",
    "Labels were taken as given. This is a figure of a research tool, not evidence that it is safe for patients.",
    "This page contains some of the tested images: share it only with those who may see them.",
)


@dataclass(frozen=True)
class Evaluated:
    """Everything the page is made from.

    Attributes:
        metrics: What `assess.metrics.score` gave, with `leakage` and `data`.
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


def evaluation_page(tested: Evaluated) -> str:
    """Make report.html of an evaluation."""
    m = tested.metrics
    roc, pr = _curves(tested)
    mistakes = confident_mistakes(tested.labels, tested.probabilities)
    return page(
        "evaluation.html.jinja",
        model={"name": tested.model},
        summary=_summary(tested),
        stamps=_stamps(tested),
        cards=[{"name": name, "value": m[key]} for key, name in _CARDS.items()],
        means=_means(tested),
        reasons=_reasons(m["reasons"]),
        tested=_tested(tested),
        group_word="groups" if tested.has_groups else "groups (not known)",
        per_class=m["per_class"],
        n_images=m["n_images"],
        left_out=tested.left_out,
        matrix=m["confusion_matrix"],
        confusion=confusion_figure(m["confusion_matrix"], tested.classes),
        roc=roc,
        pr=pr,
        mistakes=[_mistake(tested, row) for row in mistakes[:MOST_MISTAKES]],
        mistakes_text=_mistakes_text(len(mistakes), m["n_images"]),
        history=history_figure(tested.history) if tested.history else None,
        lineage=tested.lineage,
        limitations=limitations(tested),
        record=tested.record,
    )


def confident_mistakes(labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Rows predicted wrongly, the most probable wrong answer first; ties keep the order of the rows."""
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    order: npt.NDArray[np.int64] = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")]
    return order


def limitations(tested: Evaluated) -> list[str]:
    """What these figures do not show, as sentences that follow from the data at hand."""
    m, lines = tested.metrics, []
    if m["leakage"]["images"]:
        lines.append(
            "The model has seen some of these images or patients: the figures are too good and must not be reported as performance."
        )
    if tested.own_split:
        lines.append(
            "The test images come from the same data as the training images. Another hospital, device or population was not tested."
        )
    else:
        lines.append("One data set was tested; another hospital, device or population may give other figures.")
    lines.append(
        "No confidence intervals were computed: how much of a figure is chance is not shown here, and small differences mean nothing."
    )
    if not tested.has_groups:
        lines.append(
            "The data do not say which images belong to one patient or lesion, so each counts alone: a patient on both sides goes unseen."
        )
    few = [f"{name} ({one['images']})" for name, one in m["per_class"].items() if 0 < one["groups"] < _FEW]
    if few:
        lines.append(
            f"Fewer than {_FEW} {'groups' if tested.has_groups else 'images'} stand behind the figures of: {', '.join(few)} "
            "(images in brackets)."
        )
    absent = [name for name, one in m["per_class"].items() if not one["images"]]
    if absent:
        lines.append(
            f"No image of these classes was tested, so nothing is known about them, and the means leave them out: {', '.join(absent)}."
        )
    return [*lines, *_ALWAYS]


def _summary(tested: Evaluated) -> str:
    m = tested.metrics
    people = (
        f" of {m['n_groups']:,} groups (patients or lesions)" if tested.has_groups else "; which of them show the same patient is not known"
    )
    where = "the model's own held-out test split" if tested.own_split else "data given for this test"
    return f"Tested on {m['n_images']:,} images{people}: {where}, {len(m['macro_classes'])} of the model's {len(tested.classes)} classes."


def _stamps(tested: Evaluated) -> list[dict[str, str]]:
    leak, stamps = tested.metrics["leakage"], []
    if leak["images"]:
        text = (
            f"The model, or a model it was made from, has seen {leak['images']:,} of the {tested.metrics['n_images']:,} tested images or "
            "their patients. The check was overridden with --allow-leakage. These figures say nothing about new patients."
        )
        stamps.append({"title": "Leaked.", "text": text})
    if tested.synthetic:
        stamps.append(
            {
                "title": "Synthetic images.",
                "text": "They were drawn by a program and show no patient; the figures say nothing about medicine.",
            }
        )
    return stamps


def _means(tested: Evaluated) -> str:
    absent = len(tested.classes) - len(tested.metrics["macro_classes"])
    rest = f" with images; {absent} without images {'is' if absent == 1 else 'are'} left out" if absent else ""
    classes = f"{len(tested.metrics['macro_classes'])} classes{rest}"
    return f"Balanced accuracy, macro F1 and the other means give every class the same weight ({classes})."


def _tested(tested: Evaluated) -> str:
    m = tested.metrics
    groups = f"{m['n_groups']:,} groups" if tested.has_groups else "no group (patient, lesion) named"
    again = m["n_images"] - m["n_distinct_images"]
    copies = f" {again:,} of the images repeat the pixels of another." if again else " No two have the same pixels."
    return f"{m['n_images']:,} images, {groups}, from {m['data']['name']}.{copies}"


def _reasons(reasons: dict[str, str]) -> list[tuple[str, str]]:
    """What was not computed, one line per class and reason: (names of the figures, reason)."""
    words = {"roc_auc": "ROC AUC", "pr_auc": "PR AUC", "f1": "F1", "mcc": "Matthews correlation", "kappa": "Cohen's kappa"}
    lines: dict[tuple[str, str], list[str]] = {}
    for dotted, reason in reasons.items():
        of, key = "", dotted
        if dotted.startswith("per_class."):
            name, _, key = dotted.removeprefix("per_class.").rpartition(".")
            of = f" of {name}"
        plain = key.removeprefix("macro_")
        lines.setdefault((of, reason), []).append(("mean " if plain != key else "") + words.get(plain, plain))
    return [(", ".join(names) + of, reason) for (of, reason), names in lines.items()]


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


def _mistake(tested: Evaluated, row: int) -> dict[str, Any]:
    from isograft.data.containers import read
    from isograft.data.readers import ReadError, to_rgb8
    from isograft.errors import Unreachable

    label, predicted = int(tested.labels[row]), int(tested.probabilities[row].argmax())
    true_name, called = tested.classes[label], tested.classes[predicted]
    try:
        pixels = to_rgb8(read(tested.places[row], 1 << 40).array)
        image = thumbnail(pixels, f"Image {tested.names[row]}, labeled {true_name}, predicted {called}.")
    except (ReadError, Unreachable):
        image = None
    p = tested.probabilities[row]
    return {
        "image": image,
        "name": tested.names[row],
        "label": true_name,
        "predicted": called,
        "p_label": p[label],
        "p_predicted": p[predicted],
    }


def _mistakes_text(wrong: int, total: int) -> str:
    shown = f" The {MOST_MISTAKES} with the most probable wrong answer are shown." if wrong > MOST_MISTAKES else ""
    told = f"{wrong:,} of {total:,} images were classified otherwise than labeled.{shown}"
    return f"{told} In brackets: the probability the model gave. A label may be wrong, too."
