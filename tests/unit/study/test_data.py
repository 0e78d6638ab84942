from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from isograft.errors import IsograftError
from isograft.study.data import StudyData, open_study_data
from isograft.study.spec import StudySpec

Make = Callable[..., StudySpec]


@pytest.fixture
def grouped(synthetic_study: Path, make_spec: Make, study_cache: Path) -> StudyData:
    """The task t with patients of two images each."""
    lines = [f"{kind}/{number}.png,{kind},{kind}{number // 2}" for kind in ("spot", "stripes") for number in range(24)]
    table = synthetic_study / "patients.csv"
    table.write_text("\n".join(["path,kind,patient", *lines]) + "\n")
    columns = {"labels": "patients.csv", "path_column": "path", "label_column": "kind", "group_column": "patient"}
    return open_study_data(make_spec(tasks={"t": {"data": "task", **columns}}, arms={"scratch": []}), study_cache, 1)


@pytest.mark.parametrize("protocol", ["clean", "leaky-pool"])
def test_a_task_keeps_its_patients(grouped: StudyData, protocol: str) -> None:
    assert np.unique(grouped.task("t", protocol).groups().astype(str)).size == 24


@pytest.mark.parametrize("protocol", ["image-split", "paper"])
def test_images_are_their_own_groups_where_the_protocol_splits_images(grouped: StudyData, protocol: str) -> None:
    split = grouped.task("t", protocol)
    assert np.unique(split.groups().astype(str)).size == 48
    assert split.frame.drop("group").equals(grouped.tasks["t"].frame.drop("group"))  # the same rows in the same order


def test_a_task_without_labels_is_refused(make_spec: Make, study_cache: Path, synthetic_study: Path) -> None:
    flat = synthetic_study / "flat"
    flat.mkdir(exist_ok=True)
    (flat / "0.png").write_bytes((synthetic_study / "task/spot/0.png").read_bytes())
    with pytest.raises(IsograftError, match="has no labels"):
        open_study_data(make_spec(tasks={"t": {"data": "flat"}}, arms={"scratch": []}), study_cache, 1)
