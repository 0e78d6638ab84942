import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isograft.data.splits import bind, hold_out, keyed_rank, label_subset
from isograft.errors import IsograftError


def made(seed: int, groups: int = 60, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    group_label = rng.integers(classes, size=groups)
    sizes = rng.integers(1, 6, size=groups)
    labels = np.repeat(group_label, sizes).astype(str).astype(object)
    return labels, np.repeat([f"patient {number}" for number in range(groups)], sizes).astype(object)


@given(st.integers(0, 1000), st.sampled_from([0.1, 0.2, 0.4]))
@settings(max_examples=30, deadline=None)
def test_no_group_is_on_both_sides(seed: int, fraction: float) -> None:
    labels, groups = made(seed)
    held = hold_out(labels, groups, fraction, seed, "test")
    assert not set(groups[held]) & set(groups[~held])


@given(st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_every_class_is_held_out_in_about_the_wanted_share(seed: int) -> None:
    labels, groups = made(seed, groups=120)
    held = hold_out(labels, groups, 0.25, seed, "test")
    for name in np.unique(labels.astype(str)):
        share = held[labels == name].mean()
        assert 0.15 < share < 0.35


def test_the_order_of_the_rows_does_not_matter() -> None:
    labels, groups = made(3)
    order = np.random.default_rng(0).permutation(len(labels))
    held = hold_out(labels, groups, 0.2, 0, "test")
    assert (hold_out(labels[order], groups[order], 0.2, 0, "test") == held[order]).all()


def test_another_seed_or_purpose_draws_another_split() -> None:
    labels, groups = made(4)
    first = hold_out(labels, groups, 0.2, 0, "test")
    assert (hold_out(labels, groups, 0.2, 1, "test") != first).any()
    assert (hold_out(labels, groups, 0.2, 0, "val") != first).any()


def test_a_class_of_two_patients_has_one_on_either_side() -> None:
    labels = np.array(["rare", "rare", *["common"] * 40], dtype=object)
    groups = np.array(["a", "b", *[f"c{number}" for number in range(40)]], dtype=object)
    held = hold_out(labels, groups, 0.1, 0, "test")
    assert held[:2].sum() == 1


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=40),
    st.sampled_from([0.05, 0.2, 0.5, 0.9, 0.99]),
    st.integers(0, 5),
)
@settings(max_examples=300, deadline=None)
def test_every_class_stays_in_training_and_is_tested_where_training_can_spare_a_group(
    rows: list[tuple[int, int]], fraction: float, seed: int
) -> None:
    groups = np.array([f"patient {group}" for group, _ in rows], dtype=object)
    labels = np.array([f"class {label}" for _, label in rows], dtype=object)
    held = hold_out(labels, groups, fraction, seed, "test")
    members = {name: set(groups[labels == name]) for name in set(labels)}
    outside = {name: set(groups[(labels == name) & ~held]) for name in members}
    assert all(outside.values())
    last = set().union(*(left for left in outside.values() if len(left) == 1))
    for name in members:
        assert held[labels == name].any() or members[name] <= last


@given(st.integers(0, 200), st.sampled_from([0.01, 0.3, 0.99]))
@settings(max_examples=60, deadline=None)
def test_where_groups_have_one_class_a_class_of_two_groups_is_on_both_sides(seed: int, fraction: float) -> None:
    labels, groups = made(seed, groups=9, classes=4)
    held = hold_out(labels, groups, fraction, seed, "test")
    for name in set(labels):
        assert (~held[labels == name]).any()
        assert held[labels == name].any() == (len(set(groups[labels == name])) > 1)


def test_a_single_group_per_class_is_never_held_out() -> None:
    labels = np.array(["x", "x", "y", "y"], dtype=object)
    assert not hold_out(labels, np.array(["a", "a", "b", "b"], dtype=object), 0.9, 0, "test").any()


def test_a_fraction_of_zero_holds_out_nothing() -> None:
    labels, groups = made(5)
    assert not hold_out(labels, groups, 0.0, 0, "test").any()


@given(st.integers(0, 500), st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_a_smaller_label_budget_is_inside_a_larger_one(seed: int, small: int, more: int) -> None:
    labels, groups = made(seed, groups=150)
    ids = [f"{number:016x}" for number in range(len(labels))]
    few = label_subset(labels, groups, ids, small, seed)
    many = label_subset(labels, groups, ids, small + more, seed)
    assert set(few) <= set(many)
    assert all((labels[few] == name).sum() == small for name in np.unique(labels.astype(str)))


def test_a_budget_takes_different_patients_before_second_images() -> None:
    labels = np.array(["x"] * 9 + ["y"] * 9, dtype=object)
    groups = np.array([f"{name}{number // 3}" for name in "xy" for number in range(9)], dtype=object)
    chosen = label_subset(labels, groups, [str(number) for number in range(18)], 3, 0)
    assert len(set(groups[chosen])) == 6


def test_fewer_labels_than_asked_is_an_error_that_names_the_class() -> None:
    labels = np.array(["x", "x", "y"], dtype=object)
    with pytest.raises(IsograftError, match="class 'y' has 1 training labels, fewer than the 2"):
        label_subset(labels, np.array(["a", "b", "c"], dtype=object), ["1", "2", "3"], 2, 0)


def test_the_indices_of_a_split_never_change() -> None:
    """Golden: a released version must give the same split to the same data."""
    labels, groups = made(0, groups=12, classes=2)
    assert sorted(set(groups[hold_out(labels, groups, 0.25, 0, "test")])) == GOLDEN
    assert keyed_rank(["a"], 0, "test")[0] == GOLDEN_RANK


GOLDEN = ["patient 10", "patient 11", "patient 4", "patient 6"]
GOLDEN_RANK = 13854974809533092771


def test_groups_that_share_an_image_stay_together() -> None:
    groups = np.array(["b", "a", "c", "c", "d"], dtype=object)
    bound = bind(groups, np.array([0, 3]), np.array([1, 4]))
    assert bound.tolist() == ["a", "a", "c", "c", "c"]
    assert bind(groups, np.arange(5), np.arange(5)).tolist() == groups.tolist()
