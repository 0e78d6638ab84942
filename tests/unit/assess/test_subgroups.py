"""Figures for parts of the test: which columns make parts, and that each part is scored as if it stood alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from isograft.assess.subgroups import NOT_STATED, partitions, subgroups

CLASSES = ("nv", "mel")


def no_intervals(*given: Any) -> dict[str, Any]:
    return {"figures": {}, "reasons": {}}


def cases(n: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    p = draw.dirichlet([1, 1], n)
    return np.arange(n) % 2, p, np.array([f"patient {row // 2}" for row in range(n)])


def parts_of(values: list[Any], name: str = "sex", labels: Any = None, groups: Any = None) -> list[str] | str:
    labels = np.arange(len(values)) % 2 if labels is None else labels
    groups = np.arange(len(values)) if groups is None else groups
    parted, left_out = partitions({name: values}, labels, groups)
    assert {*parted} | {*left_out} == {name} and len(parted) + len(left_out) == 1
    return parted.get(name) or left_out[name]


def test_each_part_has_the_figures_that_it_would_have_alone() -> None:
    labels, p, groups = cases()
    site = [("head", "trunk", "leg")[row % 3] for row in range(len(labels))]
    found = subgroups(labels, p, CLASSES, groups, {"site": site}, no_intervals)
    assert [(one["column"], one["value"]) for one in found] == [("site", "head"), ("site", "leg"), ("site", "trunk")]
    for one in found:
        mine = np.array(site) == one["value"]
        predicted = p[mine].argmax(axis=1)
        assert one["images"] == mine.sum() and one["groups"] == len(set(groups[mine])) and one["reason"] is None
        assert one["figures"]["accuracy"] == pytest.approx(accuracy_score(labels[mine], predicted))
        assert one["figures"]["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels[mine], predicted))
        hits = predicted[labels[mine] == 1] == 1
        assert one["figures"]["per_class.mel.recall"] == pytest.approx(hits.mean())


def test_intervals_are_asked_for_the_part_alone_and_a_missing_one_has_its_reason() -> None:
    labels, p, groups = cases()
    asked: list[tuple[int, ...]] = []

    def intervals(y: Any, q: Any, classes: Any, owners: Any) -> dict[str, Any]:
        asked.append((len(y), len(q), len(owners)))
        few = {"balanced_accuracy": "class 'mel' has 3 groups"}
        return {"figures": {"accuracy": {"low": 0.1, "high": 0.9, "method": "exact"}, "mcc": {}}, "reasons": few}

    found = subgroups(labels, p, CLASSES, groups, {"sex": ["f", "m", "m"] * 20}, intervals)
    assert asked == [(20, 20, 20), (40, 40, 40)]
    assert all({*one["intervals"]} == {"accuracy"} and one["reason"] == "class 'mel' has 3 groups" for one in found)


def test_a_part_of_one_class_has_no_figure_that_compares_classes() -> None:
    labels, p, groups = cases(20)
    device = ["a"] * 12 + ["b"] * 8
    labels[12:] = 1
    found = subgroups(labels, p, CLASSES, groups, {"device": device}, no_intervals)
    assert {*found[1]["figures"]} == {"accuracy", "brier"} and "of class 'mel'" in found[1]["reason"]


def test_what_is_not_stated_is_a_part_of_its_own_and_comes_last() -> None:
    values = ["m", "f", None, " ", float("nan"), "m", "f", "m"]
    assert parts_of(values) == ["m", "f", NOT_STATED, NOT_STATED, NOT_STATED, "m", "f", "m"]
    labels, p, groups = cases(8)
    assert [one["value"] for one in subgroups(labels, p, CLASSES, groups, {"sex": values}, no_intervals)] == ["f", "m", NOT_STATED]


def test_many_numbers_become_ranges_of_a_round_width_in_the_order_of_size() -> None:
    ages = [float(20 + row % 67) for row in range(200)]
    labels, p, groups = cases(200)
    found = subgroups(labels, p, CLASSES, groups, {"age": ages}, no_intervals)
    assert [one["value"] for one in found] == [f"{low} to below {low + 10}" for low in range(20, 90, 10)]
    assert sum(one["images"] for one in found) == 200


@given(st.lists(st.integers(-10_000, 10_000), min_size=25, max_size=60, unique=True), st.sampled_from([0.001, 0.01, 0.1, 0.5, 7.0]))
def test_every_number_lies_in_the_range_it_is_put_into_and_there_are_few(numbers: list[int], scale: float) -> None:
    values = [number * scale + 0.25 * scale for number in numbers]
    parts = parts_of(values, "thickness")
    assert not isinstance(parts, str) and len(set(parts)) <= 13
    for value, part in zip(values, parts, strict=True):
        low, high = (float(end) for end in part.split(" to below "))
        assert low - 1e-6 * abs(low) - 1e-9 <= value < high + 1e-6 * abs(high) + 1e-9


def test_a_number_on_the_border_of_a_range_opens_it_whatever_the_rounding() -> None:
    values = (
        [row / 10 for row in range(11) for _ in range(3)] + [0.05 + row / 10 for row in range(10)] + [0.01 + row / 10 for row in range(2)]
    )
    parts = parts_of(values, "score")
    assert parts[9] == "0.3 to below 0.4" and parts[21] == "0.7 to below 0.8"


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("image_id", ["a", "b"] * 20, "it names images"),
        ("dicom path", ["a", "b"] * 20, "it names images"),
        ("site", ["trunk"] * 39 + [None], "fewer than two values"),
        ("remark", [f"seen on day {row}" for row in range(40)], "no numbers"),
        ("number", [100 + row for row in range(40)], "a whole number of its own"),
        ("weight", ["1.0", "1.00", *(f"1.{'0' * k}" for k in range(3, 30))], "make no ranges"),
        ("weight", [float("inf"), *(row + 0.5 for row in range(30))], "make no ranges"),
    ],
)
def test_columns_that_make_no_parts_say_why(name: str, values: list[Any], why: str) -> None:
    assert why in parts_of(values, name)


def test_a_column_that_names_patients_or_repeats_the_label_makes_no_parts() -> None:
    owners = np.repeat(np.arange(10), 4)
    assert "names patients" in parts_of([f"clinic {owner}" for owner in owners], "who", groups=owners)
    labels = np.arange(40) % 2
    assert "as if it were the label" in parts_of([("benign", "malignant")[label] for label in labels], "finding", labels)
    assert not isinstance(parts_of(["benign", "malignant", "benign", "benign"] * 10, "finding", labels), str)


@pytest.mark.parametrize("name", ["age_group", "ethnic-group", "white label"])
def test_a_column_of_kinds_of_people_makes_subgroups(name: str) -> None:
    labels, groups = np.tile([0, 1], 30), np.arange(60).astype(str)
    parts, left_out = partitions({name: ["young", "young", "old", "old"] * 15}, labels, groups)
    assert list(parts) == [name] and not left_out
