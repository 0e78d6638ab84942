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
    assert rows.train.tolist() == list(range(2, len(rows.manifest)))


def test_an_unknown_split_name_is_refused() -> None:
    names: list[str | None] = ["holdout", *["train"] * (len(manifest()) - 1)]
    with pytest.raises(IsograftError, match="split 'holdout'; use train, val or test"):
        partition(asked(), manifest(split=names), Plan())


def test_the_table_keeps_what_the_manifest_says_and_where_the_files_are() -> None:
    rows = partition(asked(), manifest(), Plan())
    table = rows.table()
    assert table["relative_uri"][0] == "00000.png"
    assert table["uri"][0] == "/images/00000.png"
    assert set(table["split"].unique()) == {"train", "test"}


def test_a_class_that_the_test_split_swallows_is_reported() -> None:
    names: list[str | None] = ["test" if label == "ill" else "train" for label in manifest().labels()]
    with pytest.raises(IsograftError, match="class 'ill' has no image in the training side"):
        partition(asked(), manifest(split=names), Plan())
