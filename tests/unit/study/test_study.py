from __future__ import annotations

import importlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

import isograft
from isograft.data.decode import core_count
from isograft.errors import IsograftError, LeakageError, RunInterrupted
from isograft.settings import StudySettings
from isograft.study.cleaning import Cleaned
from isograft.study.places import KEYS
from isograft.study.results import SCHEMA
from isograft.train.pretrain_module import PretrainModule

SOURCE = Path(isograft.__file__).parents[1]
Write = Callable[..., Path]


def finished_jobs(out: Path) -> list[str]:
    """Keys of the finished jobs; a half-done one may hold its done.json already, under its temporary name."""
    return [path.parent.name for path in (out / "jobs").glob("*/done.json") if ".partial-" not in path.parent.name]


def run(study: Path, out: Path, cache: Path, **options: Any) -> dict[str, Any]:
    return isograft.study(study, out=out, cache_dir=cache, **{"jobs": 1, **options})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """The folder of a finished study with one process."""
    return tmp_path_factory.mktemp("finished") / "out"


@pytest.fixture
def whole(finished: Path, write_study: Write, study_cache: Path) -> Path:
    if not finished.exists():
        run(write_study(), finished, study_cache)
    return finished


def test_a_study_has_one_row_per_run_and_a_report(whole: Path) -> None:
    frame = pl.read_parquet(whole / "results.parquet")
    assert frame.schema == pl.Schema(SCHEMA)
    assert frame.height == frame.select(KEYS).n_unique() == 20
    assert {path.name for path in whole.iterdir()} >= {"study.json", "ledger.jsonl", "report.html", "report.md", "summary.json"}
    assert not list((whole / "jobs").glob("*.partial-*"))


def test_all_arms_are_tested_on_the_same_images_in_the_same_order(whole: Path) -> None:
    frame = pl.read_parquet(whole / "results.parquet")
    for _, rows in frame.group_by("task", "repeat"):
        tested = [pl.read_parquet(whole / "jobs" / job / "predictions.parquet").select("id", "group", "truth") for job in rows["job"]]
        assert all(one.equals(tested[0]) for one in tested)


def test_the_figures_of_a_row_are_those_of_its_predictions(whole: Path) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    for row in pl.read_parquet(whole / "results.parquet").iter_rows(named=True):
        answers = pl.read_parquet(whole / "jobs" / row["job"] / "predictions.parquet")
        predicted = answers.select("p0", "p1").to_numpy().argmax(axis=1)
        assert row["accuracy"] == pytest.approx(accuracy_score(answers["truth"], predicted))
        assert row["macro_f1"] == pytest.approx(f1_score(answers["truth"], predicted, average="macro"))
        assert row["test_images"] == answers.height


def test_processes_side_by_side_give_the_same_bytes(whole: Path, write_study: Write, study_cache: Path, tmp_path: Path) -> None:
    run(write_study(), tmp_path / "out", study_cache, jobs=2)
    assert (tmp_path / "out/results.parquet").read_bytes() == (whole / "results.parquet").read_bytes()


def test_a_training_broken_off_by_ctrl_c_goes_on_where_it_was_and_ends_in_the_same_bytes(
    write_study: Write, study_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write_study(
        arms={"scratch": [], "in-domain": ["pool:p"]}, tasks={"t": {"data": "task"}}, pretrain={"epochs": 4, "batch_size": 16}
    )
    run(study, tmp_path / "whole", study_cache)
    steps = []
    step = PretrainModule.training_step

    def interrupted(self: Any, batch: Any, number: int) -> Any:
        steps.append(self.trainer.global_step)
        if len(steps) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, number)

    monkeypatch.setattr(PretrainModule, "training_step", interrupted)
    with pytest.raises(RunInterrupted, match=r"finished jobs are in .*--resume"):
        run(study, tmp_path / "out", study_cache)
    run(study, tmp_path / "out", study_cache, resume=True)
    assert (tmp_path / "out/results.parquet").read_bytes() == (tmp_path / "whole/results.parquet").read_bytes()
    assert not [path.name for path in (tmp_path / "out/jobs").iterdir() if "." in path.name]
    (took,) = [line for line in map(json.loads, (tmp_path / "out/ledger.jsonl").read_text().splitlines()) if line["kind"] == "pretrain"]
    assert steps == list(range(took["images_seen"] // 16)), "no step is made twice"
    assert not (tmp_path / "out/jobs" / took["key"] / "clock.json").exists()


def test_fine_tuned_runs_are_scored_and_their_models_not_kept(write_study: Write, study_cache: Path, tmp_path: Path) -> None:
    tasks = {"t": {"data": "task"}}
    options = {"finetune": {"strategy": "full", "epochs": 1}, "tasks": tasks, "arms": {"scratch": [], "in-domain": ["pool:p"]}}
    run(write_study(**options, repeats=1, labels_per_class=[3]), tmp_path / "out", study_cache)
    frame = pl.read_parquet(tmp_path / "out/results.parquet")
    assert frame["arm"].to_list() == ["in-domain", "scratch"]
    assert not any((tmp_path / "out/jobs" / job.split("/")[0] / "model").exists() for job in frame["job"])


def test_the_test_images_of_a_task_are_removed_from_a_pool_that_holds_them(write_study: Write, study_cache: Path, tmp_path: Path) -> None:
    """The pool is the task itself: every test image must go, and then nothing the chain has seen is tested."""
    options = {"pools": {"p": {"data": "task"}}, "tasks": {"t": {"data": "task"}}, "arms": {"scratch": [], "in-domain": ["pool:p"]}}
    run(write_study(**options, repeats=1), tmp_path / "out", study_cache)
    row = pl.read_parquet(tmp_path / "out/results.parquet").filter(pl.col("arm") == "in-domain").row(0, named=True)
    assert row["pool_removed"] >= row["test_images"]
    assert row["pool_images"] + row["pool_removed"] == 48


def test_a_test_image_that_was_seen_after_all_refuses_the_study(
    write_study: Write, study_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = importlib.import_module("isograft.study.planning")  # the package's attribute `study` is the verb
    monkeypatch.setattr(jobs, "cleaned", lambda images, everything, tested, grouped: Cleaned(images, 0))
    options = {"pools": {"p": {"data": "task"}}, "tasks": {"t": {"data": "task"}}, "arms": {"scratch": [], "in-domain": ["pool:p"]}}
    with pytest.raises(LeakageError, match="were seen by the arm in-domain"):
        run(write_study(**options, repeats=1), tmp_path / "out", study_cache)


def test_a_resumed_study_must_be_the_same_study(whole: Path, write_study: Write, study_cache: Path) -> None:
    with pytest.raises(IsograftError, match=r"--resume continues the run in .* unchanged|changed since the run"):
        run(write_study(repeats=3), whole, study_cache, resume=True)


def test_a_resumed_study_computes_on_the_threads_it_began_with(whole: Path, write_study: Write, study_cache: Path, tmp_path: Path) -> None:
    """Another number of threads rounds sums in another order, so a study resumed with other --jobs would end in other bytes."""
    settings = {"study": write_study(), "out": tmp_path}
    module = importlib.import_module("isograft.study.study")
    share = module._share
    assert share(StudySettings(**settings, jobs=1), {"threads": 3}) == (1, 3)
    assert share(StudySettings(**settings, jobs=5), {"threads": 3}) == (5, 3)
    slots, threads = share(StudySettings(**settings, jobs=1), {})
    assert (slots, threads) == (1, json.loads((whole / "run.json").read_text())["threads"])
    assert threads == min(core_count(), torch.get_num_threads())


def test_a_dry_run_of_a_finished_study_has_nothing_left(whole: Path, write_study: Write, study_cache: Path) -> None:
    listed = run(write_study(), whole, study_cache, dry_run=True)
    assert (listed["left"], listed["seconds"]) == (0, 0.0)


def test_a_dry_run_lists_the_jobs_and_writes_nothing(
    write_study: Write, study_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = run(write_study(), tmp_path / "out", study_cache, dry_run=True)
    assert not (tmp_path / "out").exists()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == sum(listed["jobs"].values()) + 2
    assert "The arm double is left out of the task u" in lines[-2]


def test_no_path_of_the_machine_stands_in_what_a_study_hands_on(whole: Path, synthetic_study: Path) -> None:
    for name in ("report.html", "report.md", "summary.json", "results.parquet", "ledger.jsonl"):
        assert str(synthetic_study).encode() not in (whole / name).read_bytes(), name
