"""The same figures for parts of the test: by sex, site, device, age, or any other column of the data."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from isograft.assess.metrics import score

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Intervals = Callable[[Ints, Floats, Sequence[str], npt.NDArray[Any]], dict[str, Any]]

FIGURES = ("accuracy", "balanced_accuracy", "macro_roc_auc", "brier")
MOST_VALUES = 20
_MOST_NUMBERS = 6
NOT_STATED = "not stated"
_DECADES = 10
_MOST_RANGES = 12
_NAMES = re.compile(
    r"(.*[_ -])?(id|uri|url|path|file|filename|hash|md5|sha1|sha256|uuid|guid)|label|((patient|lesion|subject|case)[_ -])?group",
    re.IGNORECASE,
)
_ROUNDING = 1e-9  # 0.3 / 0.1 is a little less than 3


def subgroups(
    labels: Ints, p: Floats, classes: Sequence[str], groups: npt.NDArray[Any], columns: Mapping[str, Sequence[Any]], intervals: Intervals
) -> list[dict[str, Any]]:
    """Score every part that a column's values make.

    Args:
        labels: int64 (N,) true classes.
        p: float64 (N, K) probabilities.
        classes: K class names.
        groups: (N,) patient or lesion of each image.
        columns: Name to N values each; text, truth values or numbers, None where not stated. Which of them make parts, see `partitions`.
        intervals: Gives the intervals of figures, as `isograft.assess.intervals.intervals`.

    Returns:
        For each part `column`, `value`, `images`, `groups`, `figures` (those of `FIGURES` and, with two classes, the recall of each; over
        the classes that the part has), `intervals` and `reason`, a sentence where the part has images of one class only, or a figure has no
        interval.
    """
    found = []
    for name, parts in partitions(columns, labels, groups)[0].items():
        order = list(dict.fromkeys(sorted((part for part in parts if part != NOT_STATED), key=_natural)))
        for part in [*order, *([NOT_STATED] if NOT_STATED in parts else [])]:
            mine = np.array([one == part for one in parts])
            found.append({"column": name, "value": part} | _scored(labels[mine], p[mine], classes, np.asarray(groups)[mine], intervals))
    return found


def partitions(columns: Mapping[str, Sequence[Any]], labels: Ints, groups: npt.NDArray[Any]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Which columns make parts of the test, and which part each image belongs to.

    A column with 2 to 20 values counts as it is; more than six numbers, such as ages, are cut into ranges of a round width, a dozen or
    fewer. Left out are columns that name images, patients or files, or are the label by another name.

    Args:
        columns: Name to N values each.
        labels: int64 (N,) true classes.
        groups: (N,) patient or lesion of each image.

    Returns:
        The part of each image, in words, by column; and why a column makes no parts, by column.
    """
    parted, left_out = {}, {}
    for name, values in columns.items():
        parts = _parts(name, values, np.asarray(groups))
        if not isinstance(parts, str) and _is_label(parts, labels):
            parts = "each of its values has images of one class only, as if it were the label"
        if isinstance(parts, str):
            left_out[name] = parts
        else:
            parted[name] = parts
    return parted, left_out


def _scored(labels: Ints, p: Floats, classes: Sequence[str], groups: npt.NDArray[Any], intervals: Intervals) -> dict[str, Any]:
    figures = score(labels, p, classes, groups)
    names = [name for name in FIGURES if figures[name] is not None]
    values = {name: figures[name] for name in names}
    if len(classes) == 2:
        values |= {f"per_class.{name}.recall": one["recall"] for name, one in figures["per_class"].items() if one["recall"] is not None}
    told = intervals(labels, p, classes, groups)
    reason = next((told["reasons"][name] for name in values if name in told.get("reasons", {})), None)
    if len(figures["macro_classes"]) == 1:
        reason = f"all its images are of class '{figures['macro_classes'][0]}', so there is nothing to tell apart"
        values = {name: value for name, value in values.items() if name in {"accuracy", "brier"}}
    return {
        "images": figures["n_images"],
        "groups": figures["n_groups"],
        "figures": values,
        "intervals": {name: told["figures"][name] for name in values if name in told["figures"]},
        "reason": reason,
    }


def _parts(name: str, values: Sequence[Any], groups: npt.NDArray[Any]) -> list[str] | str:
    """The part each image belongs to, in words; or why the column makes no parts."""
    if _NAMES.fullmatch(name.strip()):
        return "it names images, patients or files"
    words = [NOT_STATED if _empty(value) else _text(value) for value in values]
    distinct = set(words) - {NOT_STATED}
    if len(distinct) < 2:
        return "it states fewer than two values"
    numeric = len(distinct) > _MOST_NUMBERS and all(_is_number(word) for word in distinct)
    if len(distinct) <= MOST_VALUES and not numeric:
        owners = [len({*groups[[word == value for word in words]].tolist()}) for value in distinct]
        return "most of its values belong to one group only, so it names patients or lesions" if np.median(owners) < 2 else words
    if not numeric:
        return f"it has more than {MOST_VALUES} values, and they are no numbers"
    numbers = np.array([np.nan if word == NOT_STATED else float(word) for word in words])
    known = numbers[~np.isnan(numbers)]
    if not np.isfinite(known).all() or np.ptp(known) == 0:
        return "its numbers make no ranges"
    if (known == np.round(known)).all() and len(distinct) == len({*groups[~np.isnan(numbers)].tolist()}):
        return "it has a whole number of its own for every group, so it names patients or lesions"
    width = _width(float(np.ptp(known)))
    return [NOT_STATED if np.isnan(number) else _range(float(np.floor(number / width + _ROUNDING)), width) for number in numbers]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _is_label(parts: Sequence[str], labels: Ints) -> bool:
    """Whether every stated part has images of one class only, and they differ in class."""
    classes: dict[str, set[int]] = {}
    for part, label in zip(parts, labels.tolist(), strict=True):
        if part != NOT_STATED:
            classes.setdefault(part, set()).add(label)
    return all(len(found) == 1 for found in classes.values()) and len(set().union(*classes.values())) > 1


def _width(spread: float) -> float:
    """A round width, 1, 2, 5 or 10 times a power of ten, that makes at most a dozen ranges."""
    power = 10.0 ** np.floor(np.log10(spread / _MOST_RANGES))
    return float(next(factor * power for factor in (1, 2, 5, _DECADES, 20) if spread / (factor * power) <= _MOST_RANGES - 1))


def _range(step: float, width: float) -> str:
    return f"{step * width:.10g} to below {(step + 1) * width:.10g}"


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value)) or (isinstance(value, str) and not value.strip())


def _text(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value).strip()


def _natural(part: str) -> tuple[int, float, list[tuple[str, float]]]:
    """Numbers and ranges by size, then words, with the numbers in them by size."""
    try:
        number = float(part.split(" to below ")[0])
    except ValueError:
        number = float("nan")
    pieces = re.findall(r"(\D*)(\d*)", part)
    words = [(text, float(digits or 0)) for text, digits in pieces]
    return (1, 0.0, words) if np.isnan(number) else (0, number, words)
