"""First labels: with a pretrained backbone the server has nothing to answer, but images to label."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import torch
from fastapi.testclient import TestClient
from tests.unit.serve.conftest import png

from isograft.data.manifest import Manifest
from isograft.data.preprocess import Preprocess
from isograft.errors import IsograftError
from isograft.lineage import SEEN_SCHEMA
from isograft.model import Model
from isograft.networks.backbones import build_backbone, feature_count
from isograft.passport import BackboneRecord, Passport
from isograft.serve.app import build_app
from isograft.serve.desk import Desk
from isograft.serve.labeling import Labeling
from isograft.serve.serve import serve
from isograft.settings import ServeSettings


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[SimpleNamespace]:
    """A backbone, three images without labels, and a client of the app that offers two classes for them."""
    torch.manual_seed(0)
    backbone = build_backbone("test_resnet", {}, 32)
    record = BackboneRecord(name="test_resnet", features=feature_count(backbone))
    passport = Passport(kind="backbone", backbone=record, preprocess=Preprocess(image_size=32, working_size=32), method="simclr")
    model = Model.write(tmp_path / "pretrained", passport, backbone.state_dict(), pl.DataFrame(schema=SEEN_SCHEMA))
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    (tmp_path / "next.csv").write_text("uri,rank,why\n" + "".join(f"{n}.png,{n + 1},typical of 9 images\n" for n in range(3)))
    labeling = Labeling(tmp_path / "next.csv", tmp_path / "labels.parquet", ["nevus", "melanoma"])
    made = Desk(model, labeling=labeling)
    with TestClient(build_app(made)) as client:
        yield SimpleNamespace(client=client, folder=tmp_path, model=model)
    made.close()


def test_the_first_labels_are_given_without_a_classifier(desk: SimpleNamespace) -> None:
    told = desk.client.get("/api/model").json()
    assert told["answers"] is False and told["labeling"] and told["classes"] == [] and told["heatmap"] is None
    labeling = desk.client.get("/api/labeling").json()
    assert labeling["classes"] == ["nevus", "melanoma"]
    assert desk.client.get("/api/labeling/1/image").headers["content-type"] == "image/png"
    assert desk.client.put("/api/labeling/1", json={"label": "melanoma", "table": labeling["table"]}).json() == {"done": 1, "total": 3}
    refused = desk.client.put("/api/labeling/1", json={"label": "wart", "table": labeling["table"]})
    assert refused.status_code == 422 and "nevus, melanoma" in refused.json()["detail"]
    kept = Manifest.read(desk.folder / "labels.parquet").frame
    assert kept.select("uri", "label").rows() == [("1.png", "melanoma")]


def test_nothing_is_answered_without_a_classifier(desk: SimpleNamespace) -> None:
    for route in ("predict", "explain", "similar"):
        assert desk.client.post(f"/api/{route}", files={"file": png(1)}).status_code == 404
        assert f"/api/{route}" not in desk.client.get("/api/openapi.json").json()["paths"]
    assert desk.client.get("/").status_code == 200


def test_a_backbone_needs_images_to_label_and_names_of_classes(desk: SimpleNamespace) -> None:
    def run(**options: Any) -> None:
        serve(ServeSettings.model_validate({"model": desk.model.folder, "port": 0, **options}))

    with pytest.raises(IsograftError, match="give first labels with --label, --labels-out and --label-class"):
        run()
    with pytest.raises(IsograftError, match="such as --label-class nevus --label-class melanoma"):
        run(label=desk.folder / "next.csv", labels_out=desk.folder / "other.parquet")


@pytest.mark.parametrize("names", [("nevus",), ("nevus", "nevus"), ("nevus", " "), ("nevus", " melanoma")])
def test_classes_to_choose_from_are_several_with_different_names(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="--label-class"):
        ServeSettings.model_validate({"model": "m", "label": "a.csv", "labels_out": "b.parquet", "label_class": names})
    with pytest.raises(ValueError, match="--label-class is about labeling"):
        ServeSettings.model_validate({"model": "m", "label_class": ("a", "b")})
