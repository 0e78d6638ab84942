from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from isograft.errors import IsograftError
from isograft.study import halfway, work
from isograft.study.jobs import Job
from isograft.study.planning import plan_jobs
from isograft.study.spec import StudySpec

Make = Callable[..., StudySpec]


@pytest.fixture
def probes(make_spec: Make, study_cache: Path, tmp_path: Path) -> Job:
    """All probes from scratch on t; the manifests lie in tmp_path."""
    planned = plan_jobs(make_spec(tasks={"t": {"data": "task"}}, arms={"scratch": []}), study_cache, 1, {"test_resnet": "fp32"})
    planned.write_manifests(tmp_path)
    (job,) = planned.jobs
    return job


def test_a_finished_job_has_a_record_and_the_answers_of_every_run(probes: Job, tmp_path: Path, study_cache: Path) -> None:
    work.do(probes, tmp_path, study_cache, 1)
    (folder,) = (tmp_path / "jobs").iterdir()
    record = json.loads((folder / "done.json").read_bytes())
    assert (folder.name, record["key"], record["kind"], record["parents"]) == (probes.key, probes.key, "probes", [])
    assert [(row["labels_per_class"], row["repeat"]) for row in record["rows"]] == [(3, 0), (6, 0), (3, 1), (6, 1)]
    for row in record["rows"]:
        answers = pl.read_parquet(tmp_path / "jobs" / row["job"] / "predictions.parquet")
        assert answers.columns == ["id", "group", "truth", "p0", "p1"]
        assert answers.height == row["test_images"]


def test_a_finished_job_is_not_done_again(probes: Job, tmp_path: Path, study_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work.do(probes, tmp_path, study_cache, 1)
    monkeypatch.setattr(work, "_WORK", {})
    record = tmp_path / "jobs" / probes.key / "done.json"
    before = record.stat().st_mtime_ns
    work.do(probes, tmp_path, study_cache, 1)
    assert record.stat().st_mtime_ns == before


@pytest.mark.parametrize(("raised", "told"), [(IsograftError("no"), "^no$"), (OSError(28, "No space left on device"), "No space left")])
def test_a_failed_job_leaves_nothing_and_says_why(
    raised: Exception, told: str, probes: Job, tmp_path: Path, study_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(job: Job, out: Path, partial: Path, cache_dir: Path, threads: int) -> dict[str, object]:
        (partial / "half").write_text("x")
        raise raised

    monkeypatch.setitem(work._WORK, "probes", fail)
    with pytest.raises(IsograftError, match=told):
        work.do(probes, tmp_path, study_cache, 1)
    assert not [*(tmp_path / "jobs").iterdir()]


def test_the_images_of_all_trainings_of_a_chain_are_counted(make_spec: Make, study_cache: Path, tmp_path: Path) -> None:
    spec = make_spec(arms={"scratch": [], "double": ["pool:p", "task:u"]}, repeats=1, labels_per_class=[3])
    planned = plan_jobs(spec, study_cache, 1, {"test_resnet": "fp32"})
    planned.write_manifests(tmp_path)
    jobs = [job for job in planned.jobs if job.kind != "probes" or job.payload["arm"] == "double"]
    assert [job.kind for job in jobs] == ["pretrain", "step", "probes"]
    for job in jobs:
        work.do(job, tmp_path, study_cache, 1)
    trained = [json.loads((tmp_path / "jobs" / job.key / "done.json").read_bytes()) for job in jobs]
    (row,) = trained[2]["rows"]
    assert row["pool_images"] == sum(len(planned.manifests[job.payload["manifest"]]) for job in jobs[:2])
    assert row["pretrain_images_seen"] == trained[0]["images_seen"] + trained[1]["images_seen"] > 0


def test_every_byte_of_a_job_lies_on_the_disk_before_it_has_its_name(
    probes: Job, tmp_path: Path, study_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "jobs" / probes.key
    synced: set[int] = set()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if not place.exists():
            synced.add(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    work.do(probes, tmp_path, study_cache, 1)
    assert {path.stat().st_ino for path in (place, *place.rglob("*"))} <= synced
    assert (place / "done.json").is_file()


def test_of_two_workers_with_the_same_job_the_first_to_finish_counts(
    probes: Job, tmp_path: Path, study_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that was taken for lost may come back while another does its job."""
    place = tmp_path / "jobs" / probes.key

    def is_overtaken(job: Job, out: Path, partial: Path, cache_dir: Path, threads: int) -> dict[str, Any]:
        place.mkdir()
        (place / "done.json").write_text("the first")
        return {"images_seen": 1, "rows": []}

    monkeypatch.setitem(work._WORK, "probes", is_overtaken)
    work.do(probes, tmp_path, study_cache, 1)
    assert (place / "done.json").read_text() == "the first"
    assert [path.name for path in place.parent.iterdir()] == [probes.key]


@pytest.mark.parametrize(
    "raised", [KeyboardInterrupt(), OSError(28, "No space left on device"), FileNotFoundError(2, "gone"), RuntimeError("x")]
)
def test_whatever_ends_a_training_its_saved_state_stays_and_is_taken_up_again(
    raised: BaseException, probes: Job, tmp_path: Path, study_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(job: Job, out: Path, partial: Path, cache_dir: Path, threads: int) -> dict[str, object]:
        (partial / "model" / "checkpoints").mkdir(parents=True)
        (partial / "model" / "checkpoints" / "last.ckpt").write_text("hours of work")
        raise raised

    monkeypatch.setitem(work._WORK, "probes", fail)
    with pytest.raises((type(raised), IsograftError)):
        work.do(probes, tmp_path, study_cache, 1)
    halfway.keep_states(tmp_path)
    (kept,) = (tmp_path / "jobs").iterdir()
    assert kept.name == f"{probes.key}.begun" and (kept / "model" / "checkpoints" / "last.ckpt").read_text() == "hours of work"


def test_a_missing_file_is_not_called_a_full_disk(probes: Job, tmp_path: Path, study_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> dict[str, object]:
        raise FileNotFoundError(2, "No such file or directory", "/images/a.png")

    monkeypatch.setitem(work._WORK, "probes", fail)
    with pytest.raises(FileNotFoundError):
        work.do(probes, tmp_path, study_cache, 1)
