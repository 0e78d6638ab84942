"""The interface keeps to the schema that it states: schemathesis asks it with what the schema allows and with what it does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

schemathesis = pytest.importorskip("schemathesis")
from tests.unit.serve.conftest import CLASSES, SIDE, jpeg, png  # noqa: E402

from isograft.model import Model  # noqa: E402
from isograft.serve.app import build_app  # noqa: E402
from isograft.serve.desk import Bounds  # noqa: E402
from isograft.serve.labeling import Labeling  # noqa: E402
from isograft.serve.service import Service  # noqa: E402

OPERATIONS = [
    ("GET", "/health"), ("GET", "/metrics"), ("GET", "/api/model"), ("POST", "/api/predict"), ("POST", "/api/explain"),
    ("POST", "/api/similar"), ("GET", "/api/labeling"), ("GET", "/api/labeling/{row}/image"), ("PUT", "/api/labeling/{row}"),
]  # fmt: skip


@pytest.fixture(scope="module")
def schema(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder: Path = tmp_path_factory.mktemp("labels")
    for number in range(3):
        (folder / f"{number}.png").write_bytes(png(number))
    (folder / "table.csv").write_text("uri\n0.png\n1.png\n2.png\n")
    service = Service(model, Bounds(), Labeling(folder / "table.csv", folder / "out.parquet", CLASSES))
    yield schemathesis.openapi.from_asgi("/api/openapi.json", build_app(service))
    service.close()


def test_every_operation_is_asked(schema: Any) -> None:
    found = [result.ok() for result in schema.get_all_operations()]
    assert sorted((one.method.upper(), one.path) for one in found) == sorted(OPERATIONS)


@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_the_interface_keeps_to_its_schema(schema: Any, method: str, path: str, mode: str) -> None:
    wanted = schemathesis.GenerationMode[mode]
    operation = schema[path][method.lower()]
    if mode == "NEGATIVE" and not (operation.body or operation.path_parameters):
        return  # there is nothing to ask wrongly

    @settings(max_examples=10, phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(generation_mode=wanted), image=st.sampled_from([jpeg(1), png(2), jpeg(3, SIDE, SIDE)]))
    def ask(case: Any, image: bytes) -> None:
        if mode == "POSITIVE" and isinstance(case.body, dict) and "file" in case.body:
            case.body["file"] = image  # bytes at random are no image, which a schema cannot say
            case.body.update({name: "" for name in ("part", "target") if name in case.body})  # nor which words are names
        case.call_and_validate()

    ask()
