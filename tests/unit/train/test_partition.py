from pathlib import Path
from typing import Any

import polars as pl
import pytest

from isograft.data.manifest import SCHEMA, Manifest
from isograft.errors import IsograftError
from isograft.plan import Plan
from isograft.settings import FinetuneSettings
from isograft.train.partition import partition


def manifest(patients: int = 60, split: list[str | None] | None = None) -> Manifest:
    rows = []
    for number in range(patients):
        for image in range(1 + number % 3):
            key = f"{number:04d}{image}"
            rows.append(
                {
                    "id": f"{int(key):016x}",
                    "uri": f"{key}.png",
                    "label": "ill" if number % 4 == 0 else "well",
                    "group": f"p{number}",
                    "pixel_hash": key,
                    "status": "ok",
                }
            )
    frame = pl.DataFrame(rows)
    missing = [pl.lit(None).cast(kind).alias(name) for name, kind in SCHEMA.items() if name not in frame.columns]
    frame = frame.with_columns(missing)
    return Manifest(frame if split is None else frame.with_columns(pl.Series("split", split)), Path("/images/m.parquet"))


def asked(**options: Any) -> FinetuneSettings:
    return FinetuneSettings(data="m.parquet", out=Path("out"), init="scratch", **options)


def test_every_row_is_in_one_split_at_most_and_patients_are_whole() -> None:
    rows = partition(asked(val_fraction=0.2), manifest(), Plan())
    groups = rows.manifest.groups()
    sides = [set(groups[part]) for part in (rows.train, rows.val, rows.test)]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    assert len(rows.train) + len(rows.val) + len(rows.test) == len(rows.manifest)


def test_few_labels_get_a_fixed_schedule_and_many_a_validation_split() -> None:
    few, many = Plan(), Plan()
    assert len(partition(asked(), manifest(60), few).val) == 0
    assert len(partition(asked(), manifest(400), many).val) > 0
    assert (few["val_fraction"], many["val_fraction"]) == (0.0, 0.2)


def test_the_manifest_s_own_splits_are_taken_at_their_word() -> None:
    names: list[str | None] = ["test", "val", None, *["train"] * (len(manifest()) - 3)]
    rows = partition(asked(), manifest(split=names), Plan())
    assert rows.test.tolist() == [0]
    assert rows.val.tolist() == [1]
    assert rows.train.tolist() == list(range(3, len(rows.manifest)))


def test_rows_without_a_split_beside_others_with_one_are_unused_and_counted() -> None:
    names: list[str | None] = ["test", "val", None, *["train"] * (len(manifest()) - 3)]
    plan = Plan()
    rows = partition(asked(), manifest(split=names), plan)
    assert plan["unused_images"] == 1
    assert rows.table()[0]["split"].null_count() == 1


def test_a_group_in_two_named_splits_is_refused_with_two_of_its_images() -> None:
    names: list[str | None] = ["train", "test", *["train"] * (len(manifest()) - 2)]
    with pytest.raises(IsograftError, match=r"m\.parquet: 00010\.png stands in the split 'test' and 00011\.png in 'train'"):
        partition(asked(), manifest(split=names), Plan())


@pytest.mark.parametrize("strategy", ["probe", "paper"])
def test_a_strategy_that_never_stops_early_keeps_no_validation_split(strategy: str) -> None:
    plan = Plan()
    assert len(partition(asked(strategy=strategy), manifest(400), plan).val) == 0
    assert plan["val_fraction"] == 0.0
    assert len(partition(asked(strategy=strategy, val_fraction=0), manifest(400), Plan()).val) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"test_fraction": 0.3}, r"--test-fraction 0\.3 would be unused, as the split column of m\.parquet is filled"),
        ({"val_fraction": 0.3}, r"--val-fraction 0\.3 would be unused"),
        ({"val": "other"}, "names val rows, and --val other is given"),
    ],
)
def test_options_that_named_splits_leave_without_use_are_refused(options: dict[str, Any], words: str) -> None:
    names: list[str | None] = ["test", "val", "val", *["train"] * (len(manifest()) - 3)]
    with pytest.raises(IsograftError, match=words):
        partition(asked(**options), manifest(split=names), Plan())


@pytest.mark.parametrize(("fraction", "reason"), [(0.0, "as asked"), (0.3, "as asked; training and validation together")])
def test_a_label_budget_is_said_to_hold_validation_only_where_it_does(fraction: float, reason: str) -> None:
    plan = Plan()
    partition(asked(labels_per_class=5, val_fraction=fraction), manifest(), plan)
    assert [decision.reason for decision in plan if decision.name == "labels_per_class"] == [reason]


def test_a_class_of_a_single_patient_is_named_as_untestable(capsys: pytest.CaptureFixture[str]) -> None:
    frame = manifest().frame.with_columns(pl.when(pl.col("group") == "p2").then(pl.lit("rare")).otherwise("label").alias("label"))
    rows = partition(asked(), Manifest(frame), Plan())
    assert "class 'rare' has a single group (patient) and cannot be tested" in capsys.readouterr().err
    assert "rare" in rows.manifest.labels()[rows.train]
    partition(asked(test_fraction=0), Manifest(frame), Plan())
    assert "cannot be tested" not in capsys.readouterr().err


def test_named_splits_that_leave_a_class_untested_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    partition(asked(), manifest(split=["train"] * len(manifest())), Plan())
    assert "class 'ill' has no test row in the split column of m.parquet" in capsys.readouterr().err


def test_an_unknown_split_name_is_refused() -> None:
    names: list[str | None] = ["holdout", *["train"] * (len(manifest()) - 1)]
    with pytest.raises(IsograftError, match="split 'holdout'; use train, val or test"):
        partition(asked(), manifest(split=names), Plan())


def test_the_table_keeps_what_the_manifest_says_and_names_the_files_from_one_folder() -> None:
    table, folder = partition(asked(), manifest(), Plan()).table()
    assert table.columns == manifest().frame.columns
    assert (folder, table["uri"][0]) == (Path("/images"), "00000.png")
    assert set(table["split"].unique()) == {"train", "test"}


def test_a_class_that_the_test_split_swallows_is_reported() -> None:
    names: list[str | None] = ["test" if label == "ill" else "train" for label in manifest().labels()]
    with pytest.raises(IsograftError, match="class 'ill' has no image in the training side"):
        partition(asked(), manifest(split=names), Plan())
