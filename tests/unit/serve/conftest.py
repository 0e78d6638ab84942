"""A small classifier as a model folder, with a judgement and cases, and its app without a port."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
import torch

pytest.importorskip("fastapi")
from safetensors.numpy import save
from starlette.testclient import TestClient

from isograft.data.places import CASE_EMBEDDINGS_FILE, CASES_FILE
from isograft.data.preprocess import Preprocess
from isograft.lineage import SEEN_SCHEMA
from isograft.model import BackboneRecord, Model, Passport
from isograft.networks.backbones import build_backbone, feature_count
from isograft.networks.heads import Classifier, build_head
from isograft.serve.app import build_app
from isograft.serve.desk import Bounds
from isograft.serve.guard import Rules
from isograft.serve.server import listen, run
from isograft.serve.service import Service

CLASSES = ["dark", "light"]
SIDE = 32


def picture(seed: int, height: int = 40, width: int = 52) -> np.ndarray:
    """A distinct image, uint8 (H, W, 3) RGB."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def jpeg(seed: int, height: int = 40, width: int = 52) -> bytes:
    return cv2.imencode(".jpg", picture(seed, height, width))[1].tobytes()


def png(seed: int, height: int = 40, width: int = 52) -> bytes:
    return cv2.imencode(".png", picture(seed, height, width))[1].tobytes()


def _judgement() -> dict[str, Any]:
    point = {"of": "dark", "rule": "sensitivity >= 0.9", "threshold": 0.5, "held_out": {}}
    return {
        "fitted_on": "40 made-up images", "images": 40, "groups": 40, "classes": CLASSES, "temperature": 1.3, "figures": {},
        "operating_points": [{**point, "name": "screening", "by_hand": True}, {**point, "name": "rule out dark", "by_hand": False}],
        "conformal": {"lac_per_class": {"method": "lac_per_class", "coverage": 0.9, "thresholds": [0.55, 0.6]}},
        "domain": [{"threshold": 0.05, "neighbours": 2, "images": 40}],
    }  # fmt: skip


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of a classifier that nobody trained."""
    torch.manual_seed(5)
    backbone = build_backbone("test_resnet", {}, SIDE)
    features = feature_count(backbone)
    network = Classifier(backbone, build_head("linear", features, 2)).eval()
    passport = Passport(
        kind="classifier", backbone=BackboneRecord(name="test_resnet", features=features), head="linear", classes=CLASSES,
        preprocess=Preprocess(image_size=SIDE, working_size=48), method="full", judgement=_judgement(),
    )  # fmt: skip
    embeddings = np.random.default_rng(0).normal(size=(12, 1, features)).astype(np.float32)
    cases = pl.DataFrame(
        {"id": [f"{n:016x}" for n in range(12)], "uri": [f"{n}.png" for n in range(12)], "label": [CLASSES[n % 2] for n in range(12)]}
    )
    path = tmp_path_factory.mktemp("served") / "model"
    table = path.parent / CASES_FILE
    cases.write_parquet(table)
    files = {CASES_FILE: table.read_bytes(), CASE_EMBEDDINGS_FILE: save({"embeddings": embeddings})}
    Model.write(path, passport, network.state_dict(), pl.DataFrame(schema=SEEN_SCHEMA), files)
    return path


@pytest.fixture(scope="session")
def model(folder: Path) -> Model:
    return Model.load(folder)


@pytest.fixture
def make(model: Model) -> Iterator[Callable[..., SimpleNamespace]]:
    """Makes a service and a client of it: `bounds`, `rules` and `labeling` as given."""
    made: list[Service] = []

    def make(bounds: Bounds | None = None, rules: Rules | None = None, labeling: Any = None, **options: Any) -> SimpleNamespace:
        service = Service(model, bounds or Bounds(**options), labeling)
        made.append(service)
        app = build_app(service, rules)
        return SimpleNamespace(service=service, app=app, client=TestClient(app, raise_server_exceptions=False))

    yield make
    for service in made:
        service.close()


@pytest.fixture(scope="module")
def shared(model: Model) -> Iterator[SimpleNamespace]:
    """A service for tests that change nothing of it, on one event loop."""
    service = Service(model, Bounds(megabytes=1, megapixels=1))
    app = build_app(service)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield SimpleNamespace(service=service, app=app, client=client)
    service.close()


class Stub:
    """Stands in for a network: `self(images)` on a thread, `workers` batches at a time."""

    size, workers = 1, 1

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(self.workers)

    def submit(self, images: Any) -> Any:
        return self._pool.submit(self, images)

    def close(self) -> None:
        self._pool.shutdown(wait=True)


@contextmanager
def listening(app: Any, service: Service) -> Iterator[int]:
    """The app on a real port, on a thread; it is drained at the end."""
    bound = listen("127.0.0.1", 0)
    port: int = bound.getsockname()[1]
    thread = threading.Thread(target=run, args=(app, service, bound), daemon=True)
    thread.start()
    try:
        yield port  # who connects before it serves waits
    finally:
        service.draining = True
        thread.join(120)
        assert not thread.is_alive()
