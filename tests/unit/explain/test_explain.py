"""The verb: a row, a picture and an array per image, the answers of predict, bad files told, the same bytes each time."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import save_file
from tests.unit.explain.conftest import NETWORKS

import isograft
from isograft.data.places import CASE_EMBEDDINGS_FILE, CASES_FILE, THUMBNAILS_FILE
from isograft.data.preprocess import Preprocess
from isograft.errors import IsograftError
from isograft.lineage import SEEN_SCHEMA
from isograft.model import BackboneRecord, Model, Passport
from isograft.networks.backbones import build_backbone, feature_count
from isograft.networks.heads import Classifier, build_head
from isograft.passport import PASSPORT_FILE, read_passport, render, sha256
from isograft.predictions import UNSURE
from isograft.thumbnails import thumbnail_table


@pytest.fixture
def world(tmp_path: Path, image_tree: Path) -> SimpleNamespace:
    """Real model folders with random weights, and a tree of 4 images with a file that is broken."""

    def model(name: str) -> Path:
        torch.manual_seed(1)
        backbone = build_backbone(name, NETWORKS[name], 32)
        record = BackboneRecord(name=name, arguments=NETWORKS[name], features=feature_count(backbone))
        passport = Passport(
            kind="classifier", backbone=record, head="linear", classes=["dark", "light"],
            preprocess=Preprocess(image_size=32, working_size=32), method="full",
        )  # fmt: skip
        tensors = Classifier(backbone, build_head("linear", record.features, 2)).state_dict()
        return Model.write(tmp_path / name, passport, tensors, pl.DataFrame(schema=SEEN_SCHEMA)).folder

    for path in sorted(image_tree.rglob("*.png")):
        if int(path.stem[-1]) >= 2:
            path.unlink()
    (image_tree / "dark" / "cut.png").write_bytes((image_tree / "dark" / "dark0.png").read_bytes()[:60])
    return SimpleNamespace(root=tmp_path, tree=image_tree, model=model)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_input_has_a_row_with_the_answer_of_predict_and_its_files(world: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = world.model("alzubaidi_light"), world.root / "out"
    table = isograft.explain(model, world.tree, out=out, features=True)
    assert table.columns == ["id", "uri", "status", "reason", "predicted", "p_dark", "p_light", *UNSURE, "target", "picture", "array"]
    predicted = isograft.predict(model, world.tree, out=world.root / "p.parquet")
    assert table.select(predicted.columns).equals(predicted)
    bad = table.filter(pl.col("status") != "ok")
    assert bad["uri"].to_list() == ["dark/cut.png"] and bad["reason"][0] and bad["picture"][0] is None
    good = table.filter(pl.col("status") == "ok")
    assert good["target"].to_list() == good["predicted"].to_list()
    arrays = [np.load(out / name, allow_pickle=False) for name in good["array"]]
    assert all(one.shape == (32, 32) and one.dtype == np.float32 and one.min() >= 0 for one in arrays)
    expected = {"explain.csv", "explain.html", "filters.png", "feature_maps.png", *good["array"], *good["picture"]}
    assert {path.name for path in out.iterdir()} == expected
    page = (out / "explain.html").read_text()
    assert "carries no cases" in page and "cut.png" in page and "http" not in page.split("</head>")[1].replace("https://", "http")
    said = capsys.readouterr().err
    assert "method: grad-cam (a network with feature maps" in said and "1 of 5 inputs have no heatmap (1 truncated)" in said


def test_the_same_command_writes_the_same_bytes(world: SimpleNamespace) -> None:
    model = world.model("test_vit")
    for name in ("a", "b"):
        isograft.explain(model, world.tree / "light", out=world.root / name, target="dark")
    first = bytes_of(world.root / "a")
    assert len(first) == 2 * 2 + 2 and first == bytes_of(world.root / "b")
    assert pl.read_csv(world.root / "a" / "explain.csv")["target"].unique().to_list() == ["dark"]


def list_in_passport(model: Path, *names: str) -> None:
    """Make files part of a model that they were not written with."""
    passport = read_passport(model / PASSPORT_FILE)
    files = {name: value for name, value in passport.files.items() if name != PASSPORT_FILE}
    sealed = passport.seal({**files, **{name: sha256((model / name).read_bytes()) for name in names}})
    (model / PASSPORT_FILE).write_bytes(render(sealed))


def test_similar_cases_are_written_for_every_image_and_shown(world: SimpleNamespace) -> None:
    model = world.model("test_resnet")
    draw = np.random.default_rng(0)
    names = [f"{number:016x}" for number in range(9)]
    cases = pl.DataFrame({"id": names, "uri": [f"{name}.png" for name in names], "label": ["dark", "light", "dark"] * 3})
    features = isograft.Model.load(model).passport.backbone.features
    cases.write_parquet(model / CASES_FILE)
    save_file({"embeddings": draw.normal(size=(9, 1, features)).astype(np.float32)}, model / CASE_EMBEDDINGS_FILE)
    list_in_passport(model, CASES_FILE, CASE_EMBEDDINGS_FILE)
    isograft.explain(model, world.tree / "light", out=world.root / "out", similar=4)
    similar = pl.read_csv(world.root / "out" / "similar.csv", schema_overrides={"case_id": pl.String, "id": pl.String})
    assert similar.columns == ["id", "uri", "rank", "case_id", "case_uri", "label", "distance"]
    assert len(similar) == 2 * 4 and similar["rank"].to_list() == [1, 2, 3, 4] * 2
    assert all(group["distance"].is_sorted() for _, group in similar.group_by("uri"))
    assert "not found here" in (world.root / "out" / "explain.html").read_text()
    thumbnail_table(cases, [np.zeros((9, 9, 3), np.uint8)] * 9).write_parquet(model / THUMBNAILS_FILE)
    list_in_passport(model, THUMBNAILS_FILE)
    isograft.explain(model, world.tree / "light", out=world.root / "kept", similar=4)
    assert "not found here" not in (page := (world.root / "kept" / "explain.html").read_text()) and page.count("data:image/jpeg") >= 8
    isograft.explain(model, world.tree / "light", out=world.root / "none", similar=0)
    assert not (world.root / "none" / "similar.csv").exists()
    assert "Similar" not in (world.root / "none" / "explain.html").read_text()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("test_resnet", {"target": "drak"}, "--target drak is no class of .*did you mean dark"),
        ("test_resnet", {"target": "x"}, "--target x is no class of .*it knows dark, light"),
        ("test_resnet", {"method": "rollout"}, "--method rollout needs attention"),
        ("test_vit", {"method": "grad-cam"}, "--method grad-cam needs feature maps"),
        ("test_vit", {"features": True}, "--features shows the filters"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_and_nothing_is_left(
    world: SimpleNamespace, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(IsograftError, match=message):
        isograft.explain(world.model(name), world.tree, out=world.root / "out", **options)
    assert not list(world.root.glob("*out*"))


def test_a_folder_in_use_and_a_missing_model_are_refused(world: SimpleNamespace) -> None:
    with pytest.raises(IsograftError, match="already exists"):
        isograft.explain(world.model("test_resnet"), world.tree, out=world.tree)
    with pytest.raises(IsograftError, match="there is no model folder"):
        isograft.explain(world.root / "nothing", world.tree, out=world.root / "out")
