"""A run that was broken off goes on where it stood and ends in the bytes of one that was not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from isograft.engines.torch_engine import TorchEngine
from isograft.errors import IsograftError, RunInterrupted
from isograft.inputs import list_inputs
from isograft.model import Model
from isograft.predict import answering, parts
from isograft.predict import predict as predict_module
from isograft.predict.parts import Parts
from isograft.predict.predict import predict
from isograft.settings import PredictSettings

IMAGES = 23


@pytest.fixture
def world(tmp_path: Path, model: Path, write_image: Callable[[Path, np.ndarray], Path], monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A real model folder, 23 images of which one is broken, and parts of 4 rows."""
    monkeypatch.setattr(answering, "CHUNK", 2)
    monkeypatch.setattr(parts, "ROWS", 4)
    monkeypatch.setattr(parts, "SECONDS", 1e9)
    draw, rows = np.random.default_rng(0), []
    for number in range(IMAGES):
        write_image(tmp_path / "images" / f"{number:02d}.png", draw.integers(0, 256, (40, 48, 3), dtype=np.uint8))
        rows.append(f"images/{number:02d}.png,p{number // 3}")
    (tmp_path / "images" / "05.png").write_bytes(b"broken")
    table = tmp_path / "list.csv"
    table.write_text("image,patient\n" + "\n".join(rows) + "\n")

    def run(out: str, **options: Any) -> pl.DataFrame:
        given = {"engine": "torch", **options}
        return predict(PredictSettings(model=model, input=str(table), out=tmp_path / out, **given))

    def interrupted(out: str, after: int, **options: Any) -> None:
        """Begin a run and press Ctrl-C after so many chunks."""
        tables = answering.LocalAnswering.tables

        def broken(self: Any, *given: Any) -> Iterator[pl.DataFrame]:
            for number, chunk in enumerate(tables(self, *given)):
                if number == after:
                    raise KeyboardInterrupt
                yield chunk

        with monkeypatch.context() as patch, pytest.raises(RunInterrupted, match="add --resume") as caught:
            patch.setattr(answering.LocalAnswering, "tables", broken)
            run(out, **options)
        assert caught.value.exit_code == 130

    return SimpleNamespace(root=tmp_path, table=table, run=run, interrupted=interrupted)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_an_interrupted_run_goes_on_to_the_same_bytes_without_answering_again(
    world: SimpleNamespace, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = world.run(f"whole.{suffix}")
    world.interrupted(f"p.{suffix}", after=5)
    assert not (world.root / f"p.{suffix}").exists()
    read: list[Path] = []
    real = answering.read_ahead
    monkeypatch.setattr(answering, "read_ahead", lambda places, *rest, **more: real(read.extend(places) or places, *rest, **more))
    table = world.run(f"p.{suffix}", resume=True)
    assert len(read) == IMAGES - 10
    assert table.equals(whole) and len(table) == IMAGES and table["patient"].null_count() == 0
    assert (world.root / f"p.{suffix}").read_bytes() == (world.root / f"whole.{suffix}").read_bytes()
    assert sorted(path.name for path in world.root.iterdir() if path.name.startswith(".")) == []


def test_pooled_answers_and_heatmaps_are_resumed_too(world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def add(folder: Path, row: int, uri: str, place: object, pixels: np.ndarray, p: np.ndarray) -> None:
        folder.mkdir(exist_ok=True)
        (folder / f"{row}-{Path(uri).stem}").write_bytes(pixels.tobytes() + p.tobytes())

    monkeypatch.setattr(predict_module, "heatmap_folder", lambda model, network, folder, n: SimpleNamespace(add=partial(add, folder)))
    whole = world.run("whole.csv", pool_by="patient", heatmaps=world.root / "w")
    options = {"pool_by": "patient", "heatmaps": world.root / "h"}
    world.interrupted("p.csv", after=3, **options)
    assert world.run("p.csv", resume=True, **options).equals(whole)
    files = sorted(path.name for path in (world.root / "w").iterdir())
    assert len(files) == IMAGES - 1 and files == sorted(path.name for path in (world.root / "h").iterdir())
    assert all((world.root / "w" / name).read_bytes() == (world.root / "h" / name).read_bytes() for name in files)


def test_an_unfinished_run_is_not_begun_again_in_silence(world: SimpleNamespace) -> None:
    world.interrupted("p.csv", after=2)
    with pytest.raises(IsograftError, match="begun by an interrupted run; add --resume to continue it"):
        world.run("p.csv")


def test_nothing_to_resume_is_one_clear_sentence_and_leaves_nothing_behind(world: SimpleNamespace) -> None:
    with pytest.raises(IsograftError, match="no interrupted run to resume; leave --resume out"):
        world.run("p.csv", resume=True)
    assert not (world.root / ".p.csv.parts").exists()


def test_another_question_is_not_the_same_run(world: SimpleNamespace) -> None:
    world.interrupted("p.csv", after=2)
    with pytest.raises(IsograftError, match="--resume continues a run unchanged, but where: None became"):
        world.run("p.csv", resume=True, where="patient != 'p1'")


def test_an_input_that_changed_is_named(world: SimpleNamespace) -> None:
    world.interrupted("p.csv", after=2)
    os.utime(world.root / "images" / "17.png", ns=(1, 1))
    with pytest.raises(IsograftError, match=r"--resume: images/17.png changed since the run was started"):
        world.run("p.csv", resume=True)


def test_a_column_that_changed_is_noticed_and_so_is_another_number_of_rows(world: SimpleNamespace) -> None:
    world.interrupted("p.csv", after=2)
    before = world.table.read_text()
    world.table.write_text(before.replace("p3", "p9"))
    with pytest.raises(IsograftError, match=r"--resume: images/09.png changed"):
        world.run("p.csv", resume=True)
    world.table.write_text(before + "images/00.png,p0\n")
    with pytest.raises(IsograftError, match="started with 23 inputs or other columns, now 24"):
        world.run("p.csv", resume=True)


def test_two_runs_do_not_write_one_table(world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    reached, go_on = threading.Event(), threading.Event()
    begin = Parts.begin

    def waits(self: Parts, *given: Any, **asked: Any) -> None:
        begin(self, *given, **asked)
        reached.set()
        go_on.wait(120)

    monkeypatch.setattr(Parts, "begin", waits)
    first = threading.Thread(target=world.run, args=("p.csv",))
    first.start()
    assert reached.wait(120)
    with pytest.raises(IsograftError, match="being written by another run"):
        world.run("p.csv")
    go_on.set()
    first.join(120)
    assert not first.is_alive()
    assert len(pl.read_csv(world.root / "p.csv")) == IMAGES


def test_a_table_that_came_there_meanwhile_is_not_overwritten(world: SimpleNamespace) -> None:
    world.interrupted("p.csv", after=2)
    (world.root / "p.csv").write_text("mine")
    with pytest.raises(IsograftError, match="is there already, and is not what this run gives"):
        world.run("p.csv", resume=True)
    assert (world.root / "p.csv").read_text() == "mine"
    (world.root / "p.csv").unlink()
    assert len(world.run("p.csv", resume=True)) == IMAGES


def test_where_the_parts_end_leaves_the_bytes_alone(world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run("a.parquet")
    monkeypatch.setattr(parts, "SECONDS", 0.0)
    monkeypatch.setattr(answering, "CHUNK", 3)
    world.run("b.parquet")
    assert (world.root / "a.parquet").read_bytes() == (world.root / "b.parquet").read_bytes()


@pytest.mark.parametrize("kept", [["inputs.parquet"], [".asked.json.host-1-0.tmp", "inputs.parquet"], ["part-000000000000.parquet"], []])
def test_what_a_kill_leaves_before_a_run_was_noted_or_after_it_was_let_go_is_nothing(world: SimpleNamespace, kept: list[str]) -> None:
    whole = world.run("whole.csv")
    beside = world.root / ".p.csv.parts"
    beside.mkdir()
    for name in kept:
        (beside / name).write_bytes(b"half")
    with pytest.raises(IsograftError, match="no interrupted run to resume; leave --resume out"):
        world.run("p.csv", resume=True)
    assert not beside.exists()
    assert world.run("p.csv").equals(whole)


def test_rows_that_come_slowly_are_not_held_until_a_chunk_is_full(world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with heatmaps; a clock that every look at it puts 4 s on."""
    whole = world.run("whole.parquet")
    monkeypatch.setattr(answering, "CHUNK", 256)
    model = Model.load(world.root / "model")
    inputs = list_inputs(PredictSettings(model=model.folder, input=str(world.table), out=world.root / "p.csv"))
    with TorchEngine(model.network(), model.preprocess) as engine:
        slow = answering.LocalAnswering(model, engine, model.symmetries(False), now=partial(next, count(0, 4)))
        tables = list(slow.tables(inputs))
    assert {len(table) for table in tables[:-1]} == {3}  # after 12 s
    assert pl.concat(tables).equals(whole.select(tables[0].columns))


class Watch:
    """Copies what a run has on the disk before every change to it: what a process that is killed at that moment leaves behind."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self._busy = False
        self.moments: list[Path] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, given: tuple[Any, ...]) -> None:
        if self.folder is None or self._busy or event not in {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"}:
            return
        if event == "open" and not (isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        if isinstance(given[0], str | os.PathLike) and Path(given[0]).is_relative_to(self.folder):
            self._busy = True
            try:
                moment = self.folder.with_name(f"{self.folder.name}-{len(self.moments):03d}")
                shutil.copytree(self.folder, moment)
                (moment / ".p.parquet.parts" / ".lock").unlink(missing_ok=True)  # a dead process holds none
                self.moments.append(moment)
            finally:
                self._busy = False


def test_a_run_that_is_killed_at_any_moment_ends_in_the_same_bytes(world: SimpleNamespace) -> None:
    whole = world.root / "whole.parquet"
    world.run(whole)
    watch, folder = Watch(), world.root / "killed"
    folder.mkdir()
    watch.folder = folder
    world.run(folder / "p.parquet")
    watch.folder = None
    kept = {len(list((moment / ".p.parquet.parts").glob("part-*"))) for moment in watch.moments}
    assert kept == set(range(-(-IMAGES // 4) + 1))  # of every number of parts, none and all included, there was a moment
    resumed = 0
    for moment in watch.moments:
        out = moment / "p.parquet"
        unfinished = (moment / ".p.parquet.parts" / "asked.json").exists()
        if unfinished or not out.exists():
            resumed += unfinished
            world.run(out, resume=unfinished)
        assert out.read_bytes() == whole.read_bytes(), moment.name
    assert resumed > IMAGES // 4


_KILLED = """
import os, signal, sys
from pathlib import Path
from isograft.predict import answering, parts, predict
from isograft.settings import PredictSettings

answering.CHUNK, parts.ROWS, parts.SECONDS, judged, done = 2, 4, 1e9, answering.judged, []
def dies(*given):
    done.append(given)
    if len(done) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return judged(*given)
answering.judged = dies
folder, table, out = sys.argv[1:]
predict.predict(PredictSettings(model=Path(folder), input=table, out=Path(out), engine="torch"))
"""


def test_a_process_that_was_killed_left_no_lock_and_its_rows(world: SimpleNamespace) -> None:
    world.run("whole.parquet")
    command = [sys.executable, "-c", _KILLED, str(world.root / "model"), str(world.table), str(world.root / "p.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list((world.root / ".p.parquet.parts").glob("part-*"))) == 2
    world.run("p.parquet", resume=True)
    assert (world.root / "p.parquet").read_bytes() == (world.root / "whole.parquet").read_bytes()
