"""A small classifier that nobody trained, as a model folder."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import timm
import torch

from isograft.data.preprocess import Preprocess
from isograft.lineage import SEEN_SCHEMA
from isograft.model import BackboneRecord, Model, Passport
from isograft.networks.heads import Classifier, build_head


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Its folder, `model` in the test's own."""
    torch.manual_seed(0)
    backbone = timm.create_model("test_resnet", num_classes=0)
    passport = Passport(
        kind="classifier", backbone=BackboneRecord(name="test_resnet", features=backbone.num_features), head="linear",
        classes=["dark", "light"], preprocess=Preprocess(image_size=32, working_size=32), method="probe",
    )  # fmt: skip
    network = Classifier(backbone, build_head("linear", backbone.num_features, 2))
    Model.write(tmp_path / "model", passport, network.state_dict(), pl.DataFrame(schema=SEEN_SCHEMA))
    return tmp_path / "model"
