"""`isograft pretrain`: a network trained on the unlabeled images of one's own domain."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from isograft import console
from isograft.data.augment import ViewPolicy
from isograft.data.cache import ImageCache
from isograft.data.fingerprint import fingerprint
from isograft.data.loader import ViewLoader, ViewSpec
from isograft.data.preprocess import Preprocess
from isograft.data.shard_images import ShardImages
from isograft.model import Model
from isograft.networks.backbones import feature_count
from isograft.run import RunFolder
from isograft.settings import PretrainSettings
from isograft.ssl.gather import rank, world_size
from isograft.ssl.method import Method, build_method
from isograft.train.agreement import on_first
from isograft.train.callbacks import History
from isograft.train.convolutions import apply_convolutions, decide_convolutions
from isograft.train.course import Course, adopt_changes
from isograft.train.engine import run_training, training_device
from isograft.train.monitoring import EmbeddingMonitor
from isograft.train.pace import Pace, TimeLimit
from isograft.train.precision import decide_precision
from isograft.train.prepare import Opening, open_training
from isograft.train.pretrain_costs import measure_costs
from isograft.train.pretrain_module import PretrainModule
from isograft.train.pretrain_plan import plan_steps, plan_training, time_limit
from isograft.train.record import save_backbone
from isograft.train.schedule import ResolutionSchedule, parse_schedule, seed_step
from isograft.train.sharding import decide_parallel, is_sharded
from isograft.train.shared_run import training_run
from isograft.train.statistics import refresh_batch_statistics
from isograft.train.stream import BatchStream
from isograft.train.views import plan_rendering, plan_views, planned_policy, rendering_options

CLIP = 5.0


@dataclass(frozen=True)
class _Job:
    """What a prepared run consists of."""

    opening: Opening[PretrainSettings]
    method: Method
    images: ImageCache | ShardImages
    preprocess: Preprocess
    policy: ViewPolicy
    labels: npt.NDArray[np.int64] | None
    device: torch.device

    def specs_at(self, size: int) -> list[ViewSpec]:
        return self.method.view_specs(size, self.policy)


def pretrain(settings: PretrainSettings) -> Model:
    """Pretrain a network and write its model folder.

    Returns:
        The finished model.

    Raises:
        IsograftError: Bad input, an existing folder, a NaN loss or a collapsed embedding.
        RunInterrupted: Ctrl-C; the state is saved and `resume=True` continues.
    """
    began = time.monotonic()
    with training_run(settings) as run:
        if run.resumed and (settings.out / "model.json").exists():
            run.finish()  # killed at the very end, a run has not come to that
            console.say(f"{settings.out} is finished already; nothing to resume")
            return Model.load(settings.out)
        opening = open_training(run, settings)
        job = _prepare(opening)
        plan = opening.plan
        if "total_steps" not in plan:
            _plan_speed(job, began)
        adopt_changes(plan)
        plan.adopt(on_first(plan.dump))
        apply_convolutions(plan, job.method)
        plan.refuse_unknown()
        run.remember(plan=plan.dump())
        console.say("plan:")
        plan.tell()
        return _train(run, job, began)


def _prepare(opening: Opening[PretrainSettings]) -> _Job:
    """Take every decision up to the views, decode the pool once, and build the network."""
    settings, plan, manifest, start = opening.settings, opening.plan, opening.manifest, opening.start
    device = training_device()
    plan.choose("method", settings.method, "simclr", "contrast works on every backbone and from small batches up")
    preprocess = opening.decide_input(device)
    backbone = start.build(preprocess.image_size)
    fixed = hasattr(backbone, "patch_embed")
    plan.state("fixed_size", fixed, "position embeddings fix the input size" if fixed else "convolutions take any size")
    images = opening.pool(manifest, preprocess, settings.cache_limit)
    if "views" not in plan:
        plan_views(plan, settings.domain, fingerprint(images, opening.short_sides(), settings.seed))
    started, kept = settings.init != "scratch", start.keeps_statistics
    on_first(lambda: plan_training(plan, settings, manifest, started=started, kept_statistics=kept, device=device))
    plan.adopt(on_first(plan.dump))
    options: dict[str, Any] = {}
    labels = None
    if plan["method"] == "supervised":
        classes, labels = manifest.classes(), manifest.class_numbers()
        options["classes"] = len(classes)
        plan.state("pool_classes", classes, f"column {settings.label_column or 'label'}")
    if plan["method"] == "mae":
        options["seed"] = settings.seed
    method = build_method(plan["method"], backbone, feature_count(backbone), **options)
    method = method.to(memory_format=torch.channels_last)
    on_first(lambda: decide_parallel(plan, method, device))
    plan.adopt(on_first(plan.dump))
    return _Job(opening, method, images, preprocess, planned_policy(plan), labels, device)


def _plan_speed(job: _Job, began: float) -> None:
    """Measure precision and step time, then decide the number of steps."""
    settings, plan = job.opening.settings, job.opening.plan
    smallest = _smallest_view(job)
    on_first(lambda: decide_precision(plan, settings.precision, job.method.backbone, plan["image_size"], smallest, job.device))
    on_first(lambda: decide_convolutions(plan, job.method, job.device))
    plan.adopt(on_first(plan.dump))
    apply_convolutions(plan, job.method)  # a step is measured as it will be
    plan_rendering(plan, job.device)
    costs = None
    if time_limit(settings, plan) is not None:
        costs = measure_costs(job.method, job.specs_at, plan, job.preprocess, len(job.images), began)
    on_first(lambda: plan_steps(plan, settings, len(job.images), costs))


def _smallest_view(job: _Job) -> int:
    """Side of the smallest view that the network will see, in pixels."""
    return min(spec.size for size, _ in job.opening.plan["resolution"] for spec in job.specs_at(int(size)))


def _train(run: RunFolder, job: _Job, began: float) -> Model:
    settings, plan, manifest = job.opening.settings, job.opening.plan, job.opening.manifest
    history = History(run)
    loader = ViewLoader(
        job.images.in_blocks() if isinstance(job.images, ShardImages) else job.images,
        manifest.ids(),
        job.specs_at(plan["image_size"]),
        plan["batch_size"],
        settings.seed,
        labels=job.labels,
        rank=rank(),
        world_size=world_size(),
        threads=job.opening.threads,
        **rendering_options(plan),
    )
    schedule: ResolutionSchedule = parse_schedule(plan["resolution"])
    monitor = EmbeddingMonitor(job.images, job.preprocess, manifest, history, plan, settings.seed)
    module = PretrainModule(job.method, plan, job.preprocess, history, settings.seed, Course(plan, run))
    pace, limit = Pace(plan), time_limit(settings, plan)
    clock = [TimeLimit(pace, plan, run, limit=limit, began=began)] if limit is not None else []
    run_training(
        module,
        lambda position: BatchStream(loader, pace, schedule, job.specs_at, position),
        run,
        history,
        pace=pace,
        batch_size=plan["batch_size"],
        precision=plan["precision"],
        what=f"Pretraining ({plan['method']})",
        callbacks=[monitor, *clock],
        clip=CLIP,
        save_every=monitor.every,
        sharded=is_sharded(plan),
    )
    on_first(lambda: _finish(run, job, monitor, history))
    return Model.load(run.path)


def _finish(run: RunFolder, job: _Job, monitor: EmbeddingMonitor, history: History) -> None:
    """Re-estimate the batch statistics, look once more, and write the model folder."""
    settings, plan, manifest = job.opening.settings, job.opening.plan, job.opening.manifest
    seed_step(settings.seed, plan["total_steps"])
    if not plan["frozen_bn"]:
        refreshed = refresh_batch_statistics(job.method.export_backbone(), job.images, job.preprocess, settings.seed)
        plan.state("batch_statistics", f"{refreshed} layers re-estimated", "on whole images, as inference will see them")
    monitor.remeasure(job.method.export_backbone())
    history.write()
    save_backbone(run, job.method, plan, manifest, job.opening.start, job.preprocess, monitor.latest, Path(settings.data).stem)
    run.finish()
    console.say(f"model: {run.path}")
