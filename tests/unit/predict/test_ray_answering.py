"""The same rows under Ray: in order, to the bit, though a worker is lost."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from isograft.errors import IsograftError
from isograft.inputs import list_inputs
from isograft.predict import answering, ray_answering
from isograft.predict.predict import predict
from isograft.predict.ray_answering import Plan, RayAnswering, _Worker, planned
from isograft.settings import PredictSettings


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, model: Path, image_tree: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    out = model.parent / "p.csv"
    with pytest.raises(IsograftError, match=r"--engine ray needs Ray.*pip install 'isograft\[cluster\]'"):
        predict(PredictSettings(model=model, input=str(image_tree), out=out, engine="ray"))
    assert not out.exists() and not (model.parent / ".p.csv.parts").exists()


def _node(cpu: float, gpu: float = 0, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {"CPU": cpu, "GPU": gpu} if gpu else {"CPU": cpu}}


@pytest.mark.parametrize(
    ("nodes", "plan"),
    [
        ([_node(16)], Plan(4, 4, 0)),
        ([_node(2)], Plan(1, 2, 0)),
        ([_node(3), _node(3)], Plan(2, 3, 0)),
        ([_node(6), _node(6)], Plan(2, 4, 0)),
        ([_node(8), _node(2), _node(64, alive=False)], Plan(2, 4, 0)),
        ([_node(0), _node(4)], Plan(1, 4, 0)),
        ([_node(16, 4), _node(8)], Plan(4, 4, 1)),
        ([_node(2, 4)], Plan(2, 1, 1)),
        ([_node(3, 1), _node(8, 2)], Plan(3, 3, 1)),
        ([], Plan(1, 1, 0)),
    ],
)
def test_every_planned_worker_fits_a_machine(nodes: list[dict[str, Any]], plan: Plan) -> None:
    assert planned(nodes, 1000) == plan
    assert planned(nodes, 1) == plan._replace(workers=1)


class _Cluster:
    """Stands in for Ray where so many workers find room."""

    exceptions = SimpleNamespace(RayError=RuntimeError, RayTaskError=KeyError)

    def __init__(self, room: int) -> None:
        self.room, self.made, self.killed, self.given = room, 0, [], []

    def is_initialized(self) -> bool:
        return True

    def nodes(self) -> list[dict[str, Any]]:
        return [_node(8), _node(4)]

    def remote(self, **options: Any) -> Any:
        return lambda kind: SimpleNamespace(remote=self._make)

    def _make(self, *given: Any) -> Any:
        self.made += 1
        number = self.made
        self.given.append(given)
        return SimpleNamespace(number=number, pid=SimpleNamespace(remote=lambda: number))

    def wait(self, references: list[int], num_returns: int, timeout: float) -> tuple[list[int], list[int]]:
        assert num_returns == len(references) and timeout == ray_answering.START_SECONDS
        return references[: self.room], references[self.room :]

    def get(self, reference: Any) -> Any:
        return reference

    def kill(self, worker: Any) -> None:
        self.killed.append(worker.number)


def test_workers_that_find_no_room_are_one_clear_sentence_and_not_a_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = _Cluster(room=0)
    monkeypatch.setitem(sys.modules, "ray", cluster)  # type: ignore[arg-type]
    settings = PredictSettings(model=Path("m"), input="i", out=Path("o.csv"), engine="ray")
    with pytest.raises(IsograftError, match="no worker of 4 cores on one machine could start within 120 s"), RayAnswering(settings, 10**6):
        pytest.fail("began without a worker")
    assert cluster.killed == [1, 2, 3]


def test_the_run_goes_on_with_the_workers_that_found_room_and_they_are_told_the_threads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = _Cluster(room=2)
    monkeypatch.setitem(sys.modules, "ray", cluster)  # type: ignore[arg-type]
    settings = PredictSettings(model=Path("m"), input="i", out=Path("o.csv"), engine="ray", threads=7)
    with RayAnswering(settings, 10**6) as answering:
        assert [worker.number for worker in answering._workers] == [1, 2] and cluster.killed == [3]
    assert "2 of 3 workers of 4 cores found room" in capsys.readouterr().err
    assert {given[-2:] for given in cluster.given} == {(4, 7)}


@pytest.mark.parametrize(("threads", "expected"), [(None, 3), (7, 7)])
def test_a_worker_decodes_with_its_own_cores_or_as_many_threads_as_asked(
    model: Path, image_tree: Path, monkeypatch: pytest.MonkeyPatch, threads: int | None, expected: int
) -> None:
    used: list[int] = []
    real = answering.read_ahead
    monkeypatch.setattr(answering, "read_ahead", lambda places, how, n, ahead: used.append(n) or real(places, how, n, ahead=ahead))
    inputs = list_inputs(PredictSettings(model=model, input=str(image_tree), out=Path("o.csv")))
    assert isinstance(_Worker(model, False, None, len(inputs.uris), 3, threads).table(inputs, 0), bytes)
    assert used == [expected]


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
            killed.append(self._ray.get(self._workers[0].pid.remote()))
            os.kill(killed[0], signal.SIGKILL)
        return table

    monkeypatch.setattr(RayAnswering, "_got", kill_one)
    predict(PredictSettings(model=Path("model"), input="images", out=Path("ray.parquet"), engine="ray"))
    assert killed
    assert (root / "ray.parquet").read_bytes() == (root / "local.parquet").read_bytes()
    assert pl.read_parquet(root / "ray.parquet")["status"].to_list().count("ok") == 59
