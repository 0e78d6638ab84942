"""What the figures of an evaluation do not show, as sentences that follow from the data at hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isograft.report.evaluation import Evaluated

FEW = 20
_LISTED = 12


def limitations(tested: Evaluated) -> list[str]:
    """What these figures do not show: first what spoils them, then what is missing, then what no evaluation shows."""
    return [*_of_the_data(tested), *_of_the_classes(tested), *_of_what_is_missing(tested), *_of_any(tested)]


def _of_the_data(tested: Evaluated) -> Iterator[str]:
    m = tested.metrics
    if m["leakage"]["images"]:
        yield "The model has seen some of these images or patients: the figures are too good and must not be reported as performance."
    if ((m.get("against") or {}).get("leakage") or {}).get("images"):
        yield "The other model has seen some of these images or patients: the comparison favours it."
    if tested.own_split:
        yield "The test images come from the same data as the training images. Another hospital, device or population was not tested."
    else:
        yield "One data set was tested; another hospital, device or population may give other figures."
    if not tested.has_groups:
        yield (
            "The data do not say which images belong to one patient or lesion, so each counts alone: a patient on both sides goes unseen, "
            "and intervals are too narrow where patients have several images."
        )
    again = m["n_images"] - m["n_distinct_images"]
    if again:
        yield f"{again:,} of the images repeat the pixels of another and count twice."
    for line in m["data"].get("left_out") or []:
        yield f"Not everything was tested: {line}"


def _of_the_classes(tested: Evaluated) -> Iterator[str]:
    per_class = tested.metrics["per_class"]
    few = [f"{name} ({one['images']})" for name, one in per_class.items() if 0 < one["groups"] < FEW]
    if few:
        units = "groups" if tested.has_groups else "images"
        yield f"Fewer than {FEW} {units} stand behind the figures of: {_listed(few)} (images in brackets)."
    absent = [name for name, one in per_class.items() if not one["images"]]
    if absent:
        yield f"No image of these classes was tested, so nothing is known about them, and the means leave them out: {_listed(absent)}."


def _of_what_is_missing(tested: Evaluated) -> Iterator[str]:
    m = tested.metrics
    told = m.get("intervals") or {}
    if not told.get("figures"):
        yield "No confidence intervals were computed: how much of a figure is chance is not shown here, and small differences mean nothing."
    elif told.get("reasons"):
        yield "Some figures have no interval, as too few groups stand behind them or nothing varied: such figures may be chance."
    judged = m.get("judgement") or {}
    if not judged or "missing" in judged:
        yield (
            "The model carries no calibration, so its probabilities are as the network gave them, which are often too sure, and it has no "
            "threshold but that of the highest probability."
        )
    elif tested.own_split:
        yield "Calibration and thresholds were fitted on images of the same origin; elsewhere they may not hold and must be checked again."
    else:
        yield "Calibration and thresholds were fitted on other data than these; where they do not hold here, fit them on local images."
    if not m.get("subgroups"):
        yield "The data name no sex, age, skin type, site or device, so whether the model serves some people worse was not examined."
    elif any(one.get("reason") for one in m["subgroups"]):
        yield "Some subgroups are too small for an interval or have one class only; nothing can be said of them."
    if tested.audit is None:
        yield "The tested images were not audited here; isograft audit looks for wrong labels, shortcuts and near-duplicates among them."


def _of_any(tested: Evaluated) -> Iterator[str]:
    yield (
        "Checked for leaks: the same pixels, near-duplicates as far as they can be told, and groups of the same name. Not checked: "
        "patients who go by different names in different data."
    )
    if _points(tested.metrics):
        yield "Decision curves and predictive values hold for the share of each class in this test, unless another is stated."
    yield "Labels were taken as given. This is a figure of a research tool, not evidence that it is safe for patients."
    yield "This page contains some of the tested images: share it only with those who may see them."


def _points(metrics: dict[str, Any]) -> bool:
    return bool(metrics.get("operating_points") or metrics.get("decision_curves"))


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
