"""The same rows under Ray: in order, to the bit, though a worker is lost."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import timm
import torch

from isograft.data.preprocess import Preprocess
from isograft.errors import IsograftError
from isograft.lineage import SEEN_SCHEMA
from isograft.model import BackboneRecord, Model, Passport
from isograft.networks.heads import Classifier, build_head
from isograft.predict import ray_answering
from isograft.predict.predict import predict
from isograft.predict.ray_answering import RayAnswering
from isograft.settings import PredictSettings


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    backbone = timm.create_model("test_resnet", num_classes=0)
    passport = Passport(
        kind="classifier", backbone=BackboneRecord(name="test_resnet", features=backbone.num_features), head="linear",
        classes=["dark", "light"], preprocess=Preprocess(image_size=32, working_size=32), method="probe",
    )  # fmt: skip
    network = Classifier(backbone, build_head("linear", backbone.num_features, 2))
    Model.write(tmp_path / "model", passport, network.state_dict(), pl.DataFrame(schema=SEEN_SCHEMA))
    return tmp_path / "model"


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, model: Path, image_tree: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    out = model.parent / "p.csv"
    with pytest.raises(IsograftError, match=r"--engine ray needs Ray.*pip install 'isograft\[cluster\]'"):
        predict(PredictSettings(model=model, input=str(image_tree), out=out, engine="ray"))
    assert not out.exists() and not (model.parent / ".p.csv.parts").exists()


def test_ray_gives_the_bytes_of_torch_though_a_worker_is_killed(
    model: Path, write_image: Callable[[Path, np.ndarray], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'isograft[cluster]'")
    root, draw = model.parent, np.random.default_rng(0)
    for number in range(60):
        write_image(root / "images" / f"{number:02d}.png", draw.integers(0, 256, (40, 48, 3), dtype=np.uint8))
    (root / "images" / "07.png").write_bytes(b"broken")
    monkeypatch.chdir(root)
    predict(PredictSettings(model=Path("model"), input="images", out=Path("local.parquet"), engine="torch"))
    monkeypatch.setattr(ray_answering, "CHUNK", 4)
    killed: list[int] = []
    got = RayAnswering._got

    def kill_one(self: RayAnswering, reference: object) -> pl.DataFrame:
        table = got(self, reference)
        if not killed:
            killed.append(_worker())
            os.kill(killed[0], signal.SIGKILL)
        return table

    monkeypatch.setattr(RayAnswering, "_got", kill_one)
    predict(PredictSettings(model=Path("model"), input="images", out=Path("ray.parquet"), engine="ray"))
    assert killed
    assert (root / "ray.parquet").read_bytes() == (root / "local.parquet").read_bytes()
    assert pl.read_parquet(root / "ray.parquet")["status"].to_list().count("ok") == 59


def _worker(seconds: float = 10.0) -> int:
    """The process that answers."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    title = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if title.startswith(b"ray::_Worker"):
                    return int(entry.name)
        time.sleep(0.05)
    raise AssertionError("no worker was found")
