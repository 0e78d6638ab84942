"""A file that changes after ingest: every verb that reads its pixels refuses it or says so, and none uses it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest

import isograft
from isograft.data.manifest import Manifest
from isograft.errors import IsograftError

SMALL: dict[str, Any] = {"backbone": "test_resnet", "image_size": 32, "threads": 1}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images of two classes, their manifest, and a classifier of them that tests on some."""
    root = tmp_path_factory.mktemp("trained")
    for kind in (0, 1):
        (root / "images" / "ab"[kind]).mkdir(parents=True)
        for number in range(12):
            rng = np.random.default_rng([kind, number])
            image = rng.normal(90 + 60 * kind, 30, size=(40, 40, 3)).clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(root / "images" / "ab"[kind] / f"{number}.png"), image)
    isograft.ingest(root / "images", out=root / "images.parquet", threads=1)
    isograft.finetune(
        root / "images.parquet", out=root / "model", init="scratch", strategy="probe", test_fraction=0.4, cache_dir=root / "cache", **SMALL
    )
    return root


@pytest.fixture
def world(trained: Path, tmp_path: Path) -> SimpleNamespace:
    """A copy in which one image of the test split and one of the training have other pixels, of the same size and time as before."""
    root = tmp_path / "world"
    shutil.copytree(trained, root)
    split = pl.read_parquet(root / "model" / "split.parquet")
    changed = {name: split.filter(pl.col("split") == name)["uri"][0] for name in ("test", "train")}
    for uri in changed.values():
        file = root / "images" / uri if (root / "images" / uri).exists() else root / uri
        before = file.stat()
        cv2.imwrite(str(file), 255 - cv2.imread(str(file)))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    names = {name: "/".join(Path(uri).parts[-2:]) for name, uri in changed.items()}
    return SimpleNamespace(root=root, manifest=root / "images.parquet", model=root / "model", **names)


def outcome(table: pl.DataFrame, name: str) -> dict[str, Any]:
    (row,) = table.filter(pl.col("uri").str.ends_with(name)).rows(named=True)
    return row


def test_predict_on_a_manifest_gives_it_no_answer_and_says_why(world: SimpleNamespace) -> None:
    table = isograft.predict(world.model, world.manifest, out=world.root / "p.csv", engine="torch")
    for name in (world.test, world.train):
        row = outcome(table, name)
        assert (row["status"], row["predicted"], row["id"]) == ("changed", None, None)
        assert "other pixels than when it was ingested" in row["reason"]
    assert (table["status"] == "ok").sum() == 22


def test_predict_on_the_folder_knows_of_no_other_pixels_and_answers(world: SimpleNamespace) -> None:
    assert set(isograft.predict(world.model, world.root / "images", out=world.root / "p.csv", engine="torch")["status"]) == {"ok"}


def test_explain_makes_no_heatmap_of_it_and_shows_it_as_no_similar_case(world: SimpleNamespace) -> None:
    table = isograft.explain(world.model, world.manifest, out=world.root / "e", similar=24)
    row = outcome(table, world.test)
    assert (row["status"], row["picture"]) == ("changed", None)
    assert not list((world.root / "e").glob(f"*{Path(world.test).stem}.png")) or (table["status"] == "changed").sum() == 2
    from isograft.explain.entries import _case_picture
    from isograft.explain.similar import SimilarCases
    from isograft.model import Model

    cases = SimilarCases.of(Model.load(world.model))
    assert cases is not None
    all_cases = cases.nearest(cases._directions[0], len(cases))
    pictures = {case.uri: _case_picture(case, None) for case in all_cases}
    assert [uri.endswith(world.train) for uri, picture in pictures.items() if picture is None] == [True]


def test_evaluate_refuses_it(world: SimpleNamespace) -> None:
    for data in ((), (world.manifest,)):
        given = {"out": world.root / "v", "allow_leakage": True}
        with pytest.raises(IsograftError, match=r"has changed since it was ingested.*restore it, or ingest the data again"):
            isograft.evaluate(world.model, *data, **given)
        assert not (world.root / "v").exists()


def test_audit_records_it_as_bad(world: SimpleNamespace) -> None:
    record = isograft.audit(world.manifest, out=world.root / "a", cache_dir=world.root / "cache", threads=1)
    (found,) = [one for one in record["findings"] if one["kind"] == "corrupt"]
    assert found["level"] == "bad" and "2 files are no longer what they were" in found["sentence"]
    assert Path(world.test).name in found["sentence"]


@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_a_training_that_has_to_decode_it_refuses_and_leaves_no_folder(verb: str, world: SimpleNamespace) -> None:
    more = {"epochs": 1, "batch_size": 8} if verb == "pretrain" else {"strategy": "probe"}
    given = {"out": world.root / "run", "cache_dir": world.root / "cold", "init": "scratch", **SMALL, **more}
    with pytest.raises(IsograftError, match="has changed since the manifest was made; restore the file, or run ingest again"):
        getattr(isograft, verb)(world.manifest, **given)
    assert not (world.root / "run").exists()


def test_a_training_whose_cache_holds_it_uses_the_pixels_of_the_manifest(world: SimpleNamespace) -> None:
    given = {"init": "scratch", "strategy": "probe", "test_fraction": 0.4, "cache_dir": world.root / "cache", **SMALL}
    isograft.finetune(world.manifest, out=world.root / "again", **given)
    assert (world.root / "again" / "model.safetensors").read_bytes() == (world.model / "model.safetensors").read_bytes()


def test_suggest_refuses_it(world: SimpleNamespace) -> None:
    manifest = Manifest.read(world.manifest)
    Manifest(manifest.frame.with_columns(label=pl.lit(None, pl.String)), manifest.path).write(world.root / "pool.parquet")
    isograft.ingest(world.root / "images" / "a", out=world.root / "other.parquet", drop_labels=True, threads=1)
    other = Manifest.read(world.root / "other.parquet")
    file = other.locate()[0]
    cv2.imwrite(str(file), 255 - cv2.imread(str(file)) // 2)
    for path in (world.root / "images" / "a").glob("*.png"):  # none of them is one that the model knows
        if path != file:
            cv2.imwrite(str(path), cv2.imread(str(path)) // 3)
    isograft.ingest(world.root / "images" / "a", out=world.root / "other.parquet", drop_labels=True, threads=1)
    cv2.imwrite(str(file), cv2.imread(str(file)) // 2)
    with pytest.raises(IsograftError, match=rf"{file.name} cannot be read any more \(it has other pixels than when it was ingested"):
        isograft.suggest(world.model, world.root / "other.parquet", n=3, out=world.root / "next.csv", threads=1)


def test_export_leaves_it_out_of_the_comparison_and_says_so(world: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    from isograft.export.trial import find_trial
    from isograft.model import Model

    trial = find_trial(Model.load(world.model), None)
    assert len(trial) == len(pl.read_parquet(world.model / "split.parquet").filter(pl.col("split") == "test")) - 1
    said = " ".join(capsys.readouterr().err.split())
    assert Path(world.test).name in said and "left out of the comparison: it has other pixels" in said


def test_the_page_of_an_evaluation_shows_no_picture_of_a_file_that_changed_meanwhile(
    world: SimpleNamespace,
) -> None:
    from isograft.report.mistakes import _mistake

    (place,) = [place for place in Manifest.read(world.manifest).addresses() if str(place).endswith(world.test)]
    shown = SimpleNamespace(
        labels=np.array([0]), probabilities=np.array([[0.2, 0.8]]), classes=["a", "b"], places=[place], names=["x"], heatmaps=None
    )
    assert _mistake(shown, 0)["image"] is None  # type: ignore[arg-type]
    shown.places = [place.holding(None)]
    assert _mistake(shown, 0)["image"] is not None  # type: ignore[arg-type]


def test_a_folder_whose_file_changed_is_ingested_anew(world: SimpleNamespace) -> None:
    file = world.root / "images" / world.test
    os.utime(file)
    given = {"init": "scratch", "strategy": "probe", "cache_dir": world.root / "cache", **SMALL}
    model = isograft.finetune(world.root / "images", out=world.root / "folder", **given)
    assert model.passport.data != json.loads((world.model / "model.json").read_bytes())["data"]
