from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from isograft.errors import IsograftError
from isograft.study.jobs import Job, JobPlan, plan_jobs
from isograft.study.spec import StudySpec

Make = Callable[..., StudySpec]


@pytest.fixture
def plan(study_cache: Path) -> Callable[[StudySpec], JobPlan]:
    return lambda spec: plan_jobs(spec, study_cache, 1, precision={"test_resnet": "fp32"})


def runs(job: Job) -> set[tuple[int, int]]:
    return {(budget, repeat) for budget, repeat in job.payload["runs"]}


def test_parents_come_before_children_and_every_job_once(make_spec: Make, plan: Callable[[StudySpec], JobPlan]) -> None:
    jobs = plan(make_spec()).jobs
    place = {job.key: number for number, job in enumerate(jobs)}
    assert len(place) == len(jobs)
    assert all(place[parent] < place[job.key] for job in jobs for parent in job.parents)


def test_every_arm_is_probed_at_every_budget_and_repeat_of_every_task_it_applies_to(
    make_spec: Make, plan: Callable[[StudySpec], JobPlan]
) -> None:
    found: dict[tuple[str, str], set[tuple[int, int]]] = {}
    for job in plan(make_spec()).jobs:
        if job.kind == "probes":
            found.setdefault((job.payload["task"], job.payload["arm"]), set()).update(runs(job))
    whole = {(budget, repeat) for budget in (3, 6) for repeat in (0, 1)}
    assert found == dict.fromkeys([("t", "scratch"), ("t", "in-domain"), ("t", "double"), ("u", "scratch"), ("u", "in-domain")], whole)


def test_a_pretraining_from_which_nothing_differs_is_planned_once(make_spec: Make, plan: Callable[[StudySpec], JobPlan]) -> None:
    spec = make_spec(protocols=["leaky-pool", "paper"], tasks={"t": {"data": "task"}}, arms={"scratch": [], "in-domain": ["pool:p"]})
    assert sum(job.kind == "pretrain" for job in plan(spec).jobs) == 1


def test_keys_depend_on_what_decides_the_outcome_and_on_nothing_else(make_spec: Make, plan: Callable[[StudySpec], JobPlan]) -> None:
    def keys(**changes: object) -> set[str]:
        return {job.key for job in plan(make_spec(**changes)).jobs}

    before = keys()
    assert keys(title="another title", metric="accuracy") == before
    assert not keys(seed=7) & before
    assert not keys(image_size=40) & before
    changed = keys(pretrain={"epochs": 2, "batch_size": 16})
    scratch = {job.key for job in plan(make_spec()).jobs if job.payload.get("arm") == "scratch"}
    assert changed & before == scratch


def test_a_fine_tuning_is_one_job_per_budget_and_repeat(make_spec: Make, plan: Callable[[StudySpec], JobPlan]) -> None:
    spec = make_spec(finetune={"strategy": "full", "epochs": 1}, labels_per_class=[3, "all"])
    jobs = [job for job in plan(spec).jobs if job.kind == "run" and job.payload["task"] == "t" and job.payload["arm"] == "scratch"]
    assert sorted(run for job in jobs for run in runs(job)) == [(0, 0), (0, 1), (3, 0), (3, 1)]


def test_a_leaky_pool_holds_the_images_of_the_task_without_their_labels(make_spec: Make, plan: Callable[[StudySpec], JobPlan]) -> None:
    planned = plan(make_spec(protocols=["leaky-pool"], tasks={"t": {"data": "task"}}, arms={"scratch": [], "in-domain": ["pool:p"]}))
    (job,) = [job for job in planned.jobs if job.kind == "pretrain"]
    pool = planned.manifests[job.payload["manifest"]]
    assert len(pool) == 96
    assert pool.frame["label"].null_count() == 96
    assert all(path.is_file() for path in pool.locate())


def test_a_budget_that_a_task_cannot_meet_is_told_before_anything_runs(make_spec: Make, plan: Callable[[StudySpec], JobPlan]) -> None:
    with pytest.raises(IsograftError, match=r"^task t, repeat 0: class 'spot' has \d+ training labels, fewer than the 20 asked for"):
        plan(make_spec(labels_per_class=[20]))
