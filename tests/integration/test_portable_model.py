"""A model folder says nothing about the machine it was made on, and finds its test images again when both are moved together."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import isograft
from isograft.data.synthetic import plan_images, write_images
from isograft.errors import IsograftError

SMALL: dict[str, Any] = {"image_size": 32, "threads": 1}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder called `alice` with images, a pretrained network, and a classifier made from it by way of a CSV with absolute paths."""
    home = tmp_path_factory.mktemp("home") / "alice"
    cache = {"cache_dir": home.parent / "cache"}
    write_images(home / "pool", plan_images(24, 0), 0, size=40, labels=False)
    write_images(home / "labeled", plan_images(60, 0, first_patient=10_000), 0, size=40)
    table = pl.read_csv(home / "labeled.csv")
    rows = table.with_columns(file=pl.concat_str(pl.lit(f"{home}/labeled/"), "file"), backup=pl.lit(f"{home}/backup"))
    rows.write_csv(home / "absolute.csv")
    pool = {"labels": home / "pool.csv", "epochs": 1, "batch_size": 16, "backbone": "test_resnet"}
    isograft.pretrain(home / "pool", out=home / "models" / "pretrained", domain="dermoscopy", **pool, **SMALL, **cache)
    columns = {"label_column": "diagnosis", "group_column": "patient"}
    seal = isograft.Model.load(home / "models" / "pretrained").seal
    start = {"init": f"{home}/models/pretrained@sha256:{seal}", "epochs": 1, "keep_thumbnails": True}
    isograft.finetune(home / "absolute.csv", out=home / "models" / "classifier", test_fraction=0.4, **columns, **start, **SMALL, **cache)
    isograft.evaluate(home / "models" / "classifier", out=home / "evaluation")
    return home


def scored(model: Path, out: Path) -> list[float]:
    isograft.evaluate(model, out=out)
    return pl.read_parquet(out / "predictions.parquet")["p_" + isograft.Model.load(model).classes[0]].to_list()


def cells(path: Path) -> str:
    """What a table holds, as text, since its bytes are compressed."""
    return "\n".join(str(row) for row in pl.read_parquet(path).rows())


def test_no_file_of_a_model_but_the_record_of_its_run_tells_where_anything_lay(made: Path) -> None:
    for path in [*(made / "models").rglob("*"), *(made / "evaluation").rglob("*")]:
        if path.is_file() and path.name != "run.json":
            text = cells(path) if path.suffix == ".parquet" else path.read_bytes().decode(errors="replace")
            assert "alice" not in text and str(made.parent) not in text, path
    assert "alice" in (made / "models/classifier/run.json").read_text()
    assert "run.json" not in json.loads((made / "models/classifier/model.json").read_text())["files"]


def test_every_file_of_a_model_but_the_record_of_its_run_is_sealed(made: Path, tmp_path: Path) -> None:
    """A changed byte in any file is found; a file that was not there when the model was made is none of its own."""
    folder = shutil.copytree(made / "models" / "classifier", tmp_path / "model")
    seal = isograft.Model.load(folder).seal
    assert seal == hashlib.sha256((folder / "model.json").read_bytes()).hexdigest()
    files = {path.name for path in folder.iterdir()}
    assert files >= {"split.parquet", "cases.parquet", "cases.safetensors", "cases_thumbnails.parquet", "README.md", "history.csv"}
    for name in sorted(files - {"run.json"}):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
        with pytest.raises(IsograftError, match=re.escape(name)):
            isograft.Model.load(folder)
        (folder / name).write_bytes(content)
    (folder / "run.json").write_text("{}")
    assert isograft.Model.load(f"{folder}@sha256:{seal}").seal == seal
    assert "not sealed: run.json" in isograft.show(folder)


def test_a_model_made_from_an_approved_one_keeps_its_name_alone(made: Path) -> None:
    passport = isograft.Model.load(made / "models" / "classifier").passport
    assert [entry["value"] for entry in passport.plan if entry["name"] == "init"] == ["pretrained"]


def test_what_the_labels_said_besides_is_kept_for_the_test_images(made: Path) -> None:
    split = pl.read_parquet(made / "models/classifier/split.parquet")
    further = set(pl.read_csv(made / "labeled.csv").columns) - {"file"}
    assert further <= {*split.columns} and not {"file", "backup"} & {*split.columns}


def test_the_own_test_split_is_scored_alike_after_everything_moved_together(made: Path, tmp_path: Path) -> None:
    before = scored(made / "models/classifier", tmp_path / "before")
    shutil.copytree(made, tmp_path / "bob")
    hidden = made.rename(made.with_name("gone"))
    try:
        assert scored(tmp_path / "bob/models/classifier", tmp_path / "after") == before
        split = tmp_path / "bob/models/classifier/split.parquet"
        table = isograft.predict(split.parent, split, where="split = 'test'", out=tmp_path / "p.parquet")
        np.testing.assert_array_equal(table[table.columns[5]].to_numpy(), before)
    finally:
        hidden.rename(made)


def test_a_model_moved_alone_still_finds_its_images_on_the_same_machine(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "models/classifier", tmp_path / "deep/er/model")
    assert scored(tmp_path / "deep/er/model", tmp_path / "out") == scored(made / "models/classifier", tmp_path / "before")


def test_a_model_handed_on_without_its_record_or_its_split_works_and_asks_for_data_to_be_scored_on(made: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(made / "models/classifier", model)
    for name, why in (("run.json", r"its run\.json is missing"), ("split.parquet", "has no test split")):
        (model / name).unlink()
        with pytest.raises(IsograftError, match=rf"{why}.*; give labeled data: isograft evaluate"):
            isograft.evaluate(model, out=tmp_path / "out")
    assert len(isograft.predict(model, made / "pool", out=tmp_path / "p.csv")) == 24
