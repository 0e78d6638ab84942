"""The same figures for parts of the test: by sex, site, device, age, or any other column of the data."""

from __future__ import annotations

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


def subgroups(
    labels: Ints, p: Floats, classes: Sequence[str], groups: npt.NDArray[Any], columns: Mapping[str, Sequence[Any]], intervals: Intervals
) -> list[dict[str, Any]]:
    """Score every part that a column's values make.

    Args:
        labels: int64 (N,) true classes.
        p: float64 (N, K) probabilities.
        classes: K class names.
        groups: (N,) patient or lesion of each image.
        columns: Name to N values each; text, truth values or numbers, None where not stated. A column with 2 to 20 values counts as it
            is; more than six numbers are put in ranges of a round width. Left out are columns with more values (names, dates) and those
            that say no more than the label.
        intervals: Gives the intervals of figures, as `isograft.assess.intervals.intervals`.

    Returns:
        For each part `column`, `value`, `images`, `groups`, `figures` (those of `FIGURES` and, with two classes, the recall of each; over
        the classes that the part has), `intervals` and `reason`, a sentence where the part has images of one class only.
    """
    found = []
    for name, values in columns.items():
        parts = _parts(values)
        if parts is None or _tells_the_label(parts, labels):
            continue
        order = list(dict.fromkeys(sorted((part for part in parts if part != NOT_STATED), key=_natural)))
        for part in [*order, *([NOT_STATED] if NOT_STATED in parts else [])]:
            mine = np.array([one == part for one in parts])
            found.append({"column": name, "value": part} | _scored(labels[mine], p[mine], classes, np.asarray(groups)[mine], intervals))
    return found


def _scored(labels: Ints, p: Floats, classes: Sequence[str], groups: npt.NDArray[Any], intervals: Intervals) -> dict[str, Any]:
    figures = score(labels, p, classes, groups)
    names = [name for name in FIGURES if figures[name] is not None]
    values = {name: figures[name] for name in names}
    if len(classes) == 2:
        values |= {f"per_class.{name}.recall": one["recall"] for name, one in figures["per_class"].items() if one["recall"] is not None}
    reason = None
    if len(figures["macro_classes"]) == 1:
        reason = f"all its images are of class '{figures['macro_classes'][0]}', so there is nothing to tell apart"
        values = {name: value for name, value in values.items() if name in {"accuracy", "brier"}}
    between = intervals(labels, p, classes, groups)["figures"]
    return {
        "images": figures["n_images"],
        "groups": figures["n_groups"],
        "figures": values,
        "intervals": {name: between[name] for name in values if name in between},
        "reason": reason,
    }


def _parts(values: Sequence[Any]) -> list[str] | None:
    """The part each image belongs to, in words; None where the column makes no parts."""
    stated = [value for value in values if not _empty(value)]
    distinct = set(map(str, stated))
    if len(distinct) < 2:
        return None
    numbers = _numbers(values) if len(distinct) > _MOST_NUMBERS else None
    if numbers is None:
        return [NOT_STATED if _empty(value) else _text(value) for value in values] if len(distinct) <= MOST_VALUES else None
    known = np.array([number for number in numbers if number is not None])
    width = _width(float(np.ptp(known)))
    return [NOT_STATED if number is None else _range(float(np.floor(number / width) * width), width) for number in numbers]


def _numbers(values: Sequence[Any]) -> list[float | None] | None:
    """The values as finite numbers, None where not stated; None altogether where one is no number."""
    try:
        numbers = [None if _empty(value) else float(value) for value in values]
    except (TypeError, ValueError):
        return None
    return numbers if all(number is None or np.isfinite(number) for number in numbers) else None


def _tells_the_label(parts: Sequence[str], labels: Ints) -> bool:
    """Whether every part has images of one class only, and every class is in one part: the column is the label under another name."""
    pairs = {(part, int(label)) for part, label in zip(parts, labels, strict=True) if part != NOT_STATED}
    return len(pairs) == len({part for part, _ in pairs}) == len({label for _, label in pairs})


def _width(spread: float) -> float:
    """A round width, 1, 2, 5 or 10 times a power of ten, that makes at most a dozen ranges."""
    power = 10.0 ** np.floor(np.log10(spread / _MOST_RANGES))
    return float(next(factor * power for factor in (1, 2, 5, _DECADES, 20) if spread / (factor * power) <= _MOST_RANGES - 1))


def _range(low: float, width: float) -> str:
    return f"{low:g} to below {low + width:g}"


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value)) or (isinstance(value, str) and not value.strip())


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).strip()


def _natural(part: str) -> tuple[int, float, str]:
    """Numbers and ranges by size, then words."""
    try:
        return (0, float(part.split(" to below ")[0]), part)
    except ValueError:
        return (1, 0.0, part)
