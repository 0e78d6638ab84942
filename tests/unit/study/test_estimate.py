from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isograft.study import estimate as module
from isograft.study.estimate import estimate, passes, seconds_per_pass, time_needed
from isograft.study.jobs import Job

NETWORK = {"backbone": "test_resnet", "backbone_args": [], "image_size": 32, "precision": "fp32"}


def job(key: str, *parents: str, kind: str = "run", images: int = 100, method: str = "simclr") -> Job:
    return Job(key=key, kind=kind, name=key, parents=parents, images=images, payload={**NETWORK, "options": {"method": method}})


def finish(folder: Path, one: Job, seconds: float) -> None:
    (folder / "jobs" / one.key).mkdir(parents=True)
    (folder / "jobs" / one.key / "done.json").write_text(json.dumps({"seconds": seconds}))


def test_what_finished_jobs_took_tells_what_others_of_their_kind_will(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "seconds_per_pass", lambda *_: pytest.fail("nothing needs measuring"))
    jobs = [job("a", images=100), job("b", images=300), job("c", images=50)]
    finish(tmp_path, jobs[0], 10.0)
    finish(tmp_path, jobs[1], 70.0)
    assert estimate(jobs, tmp_path, 1) == {"c": pytest.approx(50 * 80 / 400)}


def test_a_kind_without_a_finished_job_is_measured_once_per_network(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(module, "seconds_per_pass", lambda one, threads: asked.append(one.key) or 0.01)
    found = estimate([job("p", kind="pretrain"), job("r"), job("s")], None, 1)
    assert asked == ["p"]
    assert found == {"p": pytest.approx(module.JOB_SECONDS + 2.0), "r": pytest.approx(2.0), "s": pytest.approx(2.0)}


def test_views_of_a_pretraining_are_passes_of_their_own() -> None:
    counted = {method: passes(job("p", kind="pretrain", method=method)) for method in ("simclr", "dino", "supervised")}
    assert counted == {"simclr": 200, "dino": 300, "supervised": 100}


def test_a_measured_pass_of_a_larger_image_takes_longer() -> None:
    small = job("a")
    large = Job(key="b", kind="run", name="b", parents=(), images=1, payload={**small.payload, "image_size": 160})
    assert 0 < seconds_per_pass(small, 1) < seconds_per_pass(large, 1)


def test_a_chain_takes_the_sum_of_its_jobs_however_many_slots() -> None:
    chain = [job("a"), job("b", "a"), job("c", "b")]
    assert time_needed(chain, {"a": 1.0, "b": 2.0, "c": 4.0}, 3) == 7.0
    assert time_needed(chain, {"b": 2.0, "c": 4.0}, 3) == 6.0


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=12), st.integers(1, 4))
def test_independent_jobs_keep_every_slot_busy_until_the_last_begins(seconds: list[float], slots: int) -> None:
    jobs = [job(str(number)) for number in range(len(seconds))]
    needed = time_needed(jobs, {one.key: time for one, time in zip(jobs, seconds, strict=True)}, slots)
    assert max(max(seconds), sum(seconds) / slots) - 1e-9 <= needed <= sum(seconds) / slots + max(seconds) + 1e-9
