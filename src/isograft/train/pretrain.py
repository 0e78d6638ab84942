"""`isograft pretrain`: a network trained on the unlabeled images of one's own domain."""

from __future__ import annotations

import copy
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
from isograft.data.manifest import Manifest
from isograft.data.preprocess import Preprocess
from isograft.data.source import default_cache_dir, open_data
from isograft.model import Model
from isograft.networks.backbones import feature_count
from isograft.plan import Plan
from isograft.run import RunFolder, run_folder
from isograft.settings import PretrainSettings
from isograft.ssl.method import Method, build_method
from isograft.train.callbacks import History
from isograft.train.engine import run_training, training_device
from isograft.train.monitoring import EmbeddingMonitor
from isograft.train.precision import choose_precision
from isograft.train.pretrain_module import PretrainModule
from isograft.train.pretrain_plan import plan_steps, plan_training
from isograft.train.record import save_backbone
from isograft.train.schedule import ResolutionSchedule, parse_schedule, seed_step
from isograft.train.start import Start, open_start
from isograft.train.statistics import refresh_batch_statistics
from isograft.train.stream import BatchStream
from isograft.train.views import plan_image_size, plan_views, planned_policy

CLIP = 5.0


def pretrain(settings: PretrainSettings) -> Model:
    """Pretrain a network and write its model folder.

    Returns:
        The finished model.

    Raises:
        IsograftError: Bad input, an existing folder, a NaN loss or a collapsed embedding.
        RunInterrupted: Ctrl-C; the state is saved and `resume=True` continues.
    """
    with run_folder(settings.out, settings.model_dump(mode="json", exclude={"resume"}), settings.resume) as run:
        if settings.resume and (settings.out / "model.json").exists():
            console.say(f"{settings.out} is finished already; nothing to resume")
            return Model.load(settings.out)
        torch.manual_seed(settings.seed)
        threads = settings.threads or torch.get_num_threads()
        manifest = open_data(settings.data, settings, need_labels=settings.method == "supervised")
        start = open_start(settings.init, settings.backbone, settings.backbone_arg)
        run.check_inputs(data=manifest.fingerprint(), init=start.parent.content_hash if start.parent else start.describe())
        plan = Plan.load(run.record["plan"]) if run.resumed and "plan" in run.record else Plan()
        job = _prepare(settings, manifest, start, plan, threads)
        if "total_steps" not in plan:
            _plan_speed(plan, settings, job, len(manifest))
        run.remember(plan=plan.dump())
        console.say("plan:")
        plan.tell()
        return _train(settings, run, job, plan, manifest, start, threads)


@dataclass(frozen=True)
class _Job:
    """What a prepared run consists of."""

    method: Method
    images: ImageCache
    preprocess: Preprocess
    policy: ViewPolicy
    labels: npt.NDArray[np.int64] | None
    device: torch.device

    def specs_at(self, size: int) -> list[ViewSpec]:
        return self.method.view_specs(size, self.policy)


def _prepare(settings: PretrainSettings, manifest: Manifest, start: Start, plan: Plan, threads: int) -> _Job:
    """Take every decision up to the views, decode the pool once, and build the network."""
    device = training_device()
    short_sides = np.minimum(manifest.frame["width"].to_numpy(), manifest.frame["height"].to_numpy()).astype(np.int64)
    plan.choose("method", settings.method, "simclr", "contrast works on every backbone and from small batches up")
    plan.decide("backbone", start.backbone, start.reason)
    plan.decide("init", settings.init, start.describe())
    size = plan_image_size(plan, settings.image_size, int(np.median(short_sides)), device, start.image_size)
    backbone = start.build(size)
    fixed = hasattr(backbone, "patch_embed")
    plan.decide("fixed_size", fixed, "position embeddings fix the input size" if fixed else "convolutions take any size")
    preprocess = Preprocess(image_size=size, working_size=round(1.5 * size), mean=start.pixel_scale[0], std=start.pixel_scale[1])
    images = ImageCache.build(manifest, preprocess, settings.cache_dir or default_cache_dir(), threads)
    if "views" not in plan:
        plan_views(plan, settings.domain, fingerprint(images, short_sides, settings.seed))
    policy = planned_policy(plan)
    plan_training(plan, settings, manifest, started=settings.init != "scratch", device=device)
    options: dict[str, Any] = {}
    labels = None
    if plan["method"] == "supervised":
        classes = manifest.classes()
        labels = np.searchsorted(np.array(classes), manifest.labels().astype(str)).astype(np.int64)
        options["classes"] = len(classes)
        plan.decide("pool_classes", classes, f"column {settings.label_column or 'label'}")
    if plan["method"] == "mae":
        options["seed"] = settings.seed
    method = build_method(plan["method"], backbone, feature_count(backbone), **options)
    method = method.to(memory_format=torch.channels_last)
    return _Job(method, images, preprocess, policy, labels, device)


def _plan_speed(plan: Plan, settings: PretrainSettings, job: _Job, images: int) -> None:
    """Measure precision and step time, then decide the number of steps."""
    if settings.precision == "auto":
        value, reason = choose_precision(job.method.backbone, plan["image_size"], job.device)
        plan.decide("precision", value, reason)
    else:
        plan.decide("precision", settings.precision, "as asked")
    timed = settings.epochs == "auto" or settings.max_time is not None
    sizes = {int(size) for size, _ in plan["resolution"]}
    seconds = {size: _seconds_per_step(plan, job, size) if timed else 0.0 for size in sizes}
    plan_steps(plan, settings, images, seconds)


def _seconds_per_step(plan: Plan, job: _Job, size: int) -> float:
    """Time of one whole step at a view size, on a copy of the method: the best of two after one to warm up."""
    method = copy.deepcopy(job.method).to(job.device).train()
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-6)
    generator = torch.Generator().manual_seed(0)
    shapes = [(plan["batch_size"], spec.size) for spec in job.specs_at(size) for _ in range(spec.count)]
    views = [torch.randint(0, 256, (batch, side, side, 3), dtype=torch.uint8, generator=generator) for batch, side in shapes]
    labels = torch.zeros(plan["batch_size"], dtype=torch.int64, device=job.device)
    best = float("inf")
    for attempt in range(3):
        began = time.perf_counter()
        with torch.autocast(job.device.type, torch.bfloat16, enabled=plan["precision"] == "bf16"):
            loss = method([job.preprocess.normalise(view.to(job.device)) for view in views], labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if job.device.type == "cuda":
            torch.cuda.synchronize()
        if attempt:
            best = min(best, time.perf_counter() - began)
    return best


def _train(settings: PretrainSettings, run: RunFolder, job: _Job, plan: Plan, manifest: Manifest, start: Start, threads: int) -> Model:
    history = History(run)
    loader = ViewLoader(
        job.images,
        manifest.ids(),
        job.specs_at(plan["image_size"]),
        plan["batch_size"],
        settings.seed,
        labels=job.labels,
        threads=threads,
    )
    schedule: ResolutionSchedule = parse_schedule(plan["resolution"])
    monitor = EmbeddingMonitor(job.images, job.preprocess, manifest, history, plan, settings.seed)
    module = PretrainModule(job.method, plan, job.preprocess, history, settings.seed)
    run_training(
        module,
        lambda position: BatchStream(loader, plan["total_steps"], schedule, job.specs_at, position),
        run,
        history,
        total_steps=plan["total_steps"],
        batch_size=plan["batch_size"],
        precision=plan["precision"],
        what=f"Pretraining ({plan['method']})",
        callbacks=[monitor],
        clip=CLIP,
        save_every=monitor.every,
    )
    seed_step(settings.seed, plan["total_steps"])
    refreshed = refresh_batch_statistics(job.method.export_backbone(), job.images, job.preprocess, settings.seed)
    plan.decide("batch_statistics", f"{refreshed} layers re-estimated", "on whole images, as inference will see them")
    monitor.remeasure(job.method.export_backbone())
    model = save_backbone(run, job.method, plan, manifest, start, job.preprocess, monitor.latest, Path(settings.data).stem)
    run.finish()
    console.say(f"model: {run.path}")
    return model
