from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from isograft.data.manifest import Manifest
from isograft.data.source import open_data
from isograft.errors import IsograftError
from isograft.settings import DataSettings
from isograft.study.jobs import Job
from isograft.study.planning import JobPlan, plan_jobs
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


def fold(folder: Path, task: Path, cache: Path, place: int) -> str:
    """Write a manifest of a task's images whose split column tests every fourth one; return its file name."""
    manifest = open_data(str(task), DataSettings(cache_dir=cache, threads=1), need_labels=True)
    split = pl.Series("split", ["test" if number % 4 == place else "train" for number in range(len(manifest))])
    Manifest(manifest.frame.with_columns(split), manifest.path).write(folder / f"fold{place}.parquet")
    return f"fold{place}.parquet"


def test_tasks_of_the_same_images_with_other_splits_are_other_jobs_on_other_manifests(
    make_spec: Make, plan: Callable[[StudySpec], JobPlan], synthetic_study: Path, study_cache: Path
) -> None:
    names = [fold(synthetic_study, synthetic_study / "task", study_cache, place) for place in (0, 1)]
    tasks = {f"t{place}": {"data": name} for place, name in enumerate(names)}
    planned = plan(make_spec(tasks=tasks, arms={"scratch": []}, test_fraction=0.2, labels_per_class=[3]))
    for job in planned.jobs:
        wanted = Manifest.read(synthetic_study / names[int(job.payload["task"][1])])
        assert planned.manifests[job.payload["manifest"]].frame["split"].to_list() == wanted.frame["split"].to_list()
    keys = [
        {
            job.key
            for job in plan(make_spec(tasks={"t": {"data": name}}, arms={"scratch": []}, test_fraction=0.2, labels_per_class=[3])).jobs
        }
        for name in names
    ]
    assert not keys[0] & keys[1]


def test_a_pool_of_test_images_alone_is_told_before_anything_runs(
    make_spec: Make, plan: Callable[[StudySpec], JobPlan], synthetic_study: Path
) -> None:
    planned = plan(
        make_spec(tasks={"t": {"data": "task"}}, pools={"p": {"data": "task"}}, arms={"scratch": [], "in-domain": ["pool:p"]}, repeats=1)
    )
    (job,) = [job for job in planned.jobs if job.kind == "pretrain"]
    left = {path.name for path in planned.manifests[job.payload["manifest"]].locate() if path.parent.name == "spot"}
    tested = min(number for number in range(24) if f"{number}.png" not in left)
    (synthetic_study / "tested").mkdir()
    shutil.copy(synthetic_study / "task" / "spot" / f"{tested}.png", synthetic_study / "tested")
    with pytest.raises(IsograftError, match=r"^all 1 images of pool:p are test images of the task t in repeat 0"):
        plan(
            make_spec(
                tasks={"t": {"data": "task"}}, pools={"p": {"data": "tested"}}, arms={"scratch": [], "in-domain": ["pool:p"]}, repeats=1
            )
        )


def test_what_is_removed_for_one_repeat_is_counted_for_each(make_spec: Make, plan: Callable[[StudySpec], JobPlan]) -> None:
    planned = plan(make_spec(tasks={"t": {"data": "task"}}, pools={"p": {"data": "task"}}, arms={"scratch": [], "in-domain": ["pool:p"]}))
    assert [*planned.removed] == [f"pool:p from scratch (t, clean, repeat {repeat})" for repeat in (0, 1)]


def test_a_supervised_pretraining_refuses_a_pool_with_unlabeled_images_of_the_task(
    make_spec: Make, plan: Callable[[StudySpec], JobPlan]
) -> None:
    with pytest.raises(IsograftError, match=r"^the protocol leaky-pool puts .* pretrain.method is supervised"):
        plan(make_spec(protocols=["leaky-pool"], pretrain={"method": "supervised", "epochs": 1}))


def test_data_with_splits_of_their_own_need_no_option_and_cannot_be_split_by_image(
    make_spec: Make, plan: Callable[[StudySpec], JobPlan], synthetic_study: Path, study_cache: Path
) -> None:
    opened = open_data(str(synthetic_study / "task"), DataSettings.model_validate({"cache_dir": study_cache}), need_labels=True)
    number = pl.col("uri").str.extract(r"(\d+)\.png$").cast(int)
    split = pl.when(number < 6).then(pl.lit("test")).otherwise(pl.lit("train")).alias("split")
    Manifest(opened.frame.with_columns(split), opened.path).write(synthetic_study / "split.parquet")
    planned = plan(make_spec(tasks={"t": {"data": "split.parquet"}}, arms={"scratch": []}))
    assert planned.fixed_splits == ["t"] and {job.payload["test_fraction"] for job in planned.jobs} == {0.2}
    with pytest.raises(IsograftError, match="its data name their own splits, so the protocol image-split cannot split image by image"):
        plan(make_spec(tasks={"t": {"data": "split.parquet"}}, arms={"scratch": []}, protocols=["image-split"]))
