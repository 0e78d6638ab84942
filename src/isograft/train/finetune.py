"""`isograft finetune`: a classifier from few labeled images, started anywhere in a chain of transfers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from isograft import console
from isograft.data.cache import ImageCache
from isograft.data.fingerprint import fingerprint
from isograft.data.loader import ViewLoader, ViewSpec
from isograft.data.manifest import Manifest
from isograft.data.preprocess import Preprocess
from isograft.data.source import default_cache_dir, open_data
from isograft.errors import IsograftError
from isograft.lineage import leaks, seen_rows
from isograft.model import Model
from isograft.networks.backbones import feature_count
from isograft.networks.heads import Classifier, build_head
from isograft.plan import Plan
from isograft.run import RunFolder, run_folder
from isograft.settings import FinetuneSettings
from isograft.train.callbacks import History
from isograft.train.engine import run_training, training_device
from isograft.train.finetune_module import FinetuneModule
from isograft.train.finetune_plan import plan_finetuning, training_policy
from isograft.train.monitoring import embed
from isograft.train.partition import Partition, partition
from isograft.train.precision import choose_precision
from isograft.train.probe import fit_probe
from isograft.train.record import save_classifier
from isograft.train.schedule import ResolutionSchedule
from isograft.train.selection import BestOnValidation
from isograft.train.start import Start, open_start
from isograft.train.stream import BatchStream
from isograft.train.views import plan_image_size, plan_views, planned_policy


@dataclass(frozen=True)
class _Job:
    """What a prepared run consists of."""

    classifier: Classifier
    images: ImageCache
    rows: Partition
    targets: npt.NDArray[np.int64]
    preprocess: Preprocess
    plan: Plan
    validation: tuple[ImageCache, npt.NDArray[np.int64], npt.NDArray[np.int64], Manifest] | None


def finetune(settings: FinetuneSettings) -> Model:
    """Fine-tune a classifier and write its model folder.

    Returns:
        The finished model; its held-out test rows are in split.parquet for `evaluate`.

    Raises:
        IsograftError: Bad input, an existing folder, one class only, too few labels.
        RunInterrupted: Ctrl-C; the state is saved and `resume=True` continues.
    """
    with run_folder(settings.out, settings.model_dump(mode="json", exclude={"resume"}), settings.resume) as run:
        if settings.resume and (settings.out / "model.json").exists():
            console.say(f"{settings.out} is finished already; nothing to resume")
            return Model.load(settings.out)
        torch.manual_seed(settings.seed)
        threads = settings.threads or torch.get_num_threads()
        manifest = open_data(settings.data, settings, need_labels=True)
        start = open_start(settings.init, settings.backbone, settings.backbone_arg)
        run.check_inputs(data=manifest.fingerprint(), init=start.parent.content_hash if start.parent else start.describe())
        plan = Plan.load(run.record["plan"]) if run.resumed and "plan" in run.record else Plan()
        job = _prepare(settings, manifest, start, plan, threads)
        run.remember(plan=plan.dump())
        console.say("plan:")
        plan.tell()
        _warn_of_seen_test_images(start, job.rows)
        return _train(settings, run, job, start, threads)


def _prepare(settings: FinetuneSettings, manifest: Manifest, start: Start, plan: Plan, threads: int) -> _Job:
    """Take every decision, decode the images once, and build the network with its first head."""
    device = training_device()
    started = bool(start.weights.tensors)
    classes = manifest.classes()
    plan.decide("backbone", start.backbone, start.reason)
    plan.decide("init", settings.init, start.describe())
    short_sides = np.minimum(manifest.frame["width"].to_numpy(), manifest.frame["height"].to_numpy()).astype(np.int64)
    size = plan_image_size(plan, settings.image_size, int(np.median(short_sides)), device, start.image_size)
    rows = partition(settings, manifest, plan)
    targets = np.searchsorted(np.array(classes), manifest.labels().astype(str)).astype(np.int64)
    validation_given = settings.val is not None or len(rows.val) > 0
    plan_finetuning(plan, settings, train_images=len(rows.train), validated=validation_given, started=started)
    preprocess = Preprocess(image_size=size, working_size=round(1.5 * size), mean=start.pixel_scale[0], std=start.pixel_scale[1])
    cache_dir = settings.cache_dir or default_cache_dir()
    images = ImageCache.build(manifest, preprocess, cache_dir, threads)
    backbone = start.build(size).to(memory_format=torch.channels_last)
    kind = "paper" if plan["strategy"] == "paper" and start.backbone.startswith("alzubaidi") else "linear"
    classifier = Classifier(backbone, build_head(kind, feature_count(backbone), len(classes)))
    if plan["strategy"] in {"probe", "probe-then-full"}:
        _solve_head(classifier, images, rows, targets, preprocess, plan, settings.seed)
    if plan["strategy"] != "probe" and "views" not in plan:
        _plan_views(settings, start, plan, images, rows, short_sides)
        value, reason = choose_precision(backbone, size, device) if settings.precision == "auto" else (settings.precision, "as asked")
        plan.decide("precision", value, reason)
    return _Job(
        classifier,
        images,
        rows,
        targets,
        preprocess,
        plan,
        _validation(settings, classes, rows, images, targets, preprocess, cache_dir, threads),
    )


def _plan_views(
    settings: FinetuneSettings, start: Start, plan: Plan, images: ImageCache, rows: Partition, short_sides: npt.NDArray[np.int64]
) -> None:
    """Vary images as in the pretraining, whose pool is larger than any labeled set; without one, measure all images but the test's."""
    inherited = start.parent_decision("views")
    if settings.domain == "auto" and inherited is not None:
        plan.decide("domain", start.parent_decision("domain"), f"as {settings.init} was pretrained")
        plan.decide("views", inherited, f"as {settings.init} was pretrained")
        return
    measured = np.setdiff1d(np.arange(len(rows.manifest)), rows.test)
    plan_views(plan, settings.domain, fingerprint(images.select(measured), short_sides[measured], settings.seed))


def _validation(
    settings: FinetuneSettings,
    classes: list[str],
    rows: Partition,
    images: ImageCache,
    targets: npt.NDArray[np.int64],
    preprocess: Preprocess,
    cache_dir: Path,
    threads: int,
) -> tuple[ImageCache, npt.NDArray[np.int64], npt.NDArray[np.int64], Manifest] | None:
    """Images, rows and class numbers of the validation split, if there is one."""
    if settings.val is None:
        return (images, rows.val, targets[rows.val], rows.manifest.take(rows.val)) if len(rows.val) else None
    manifest = open_data(settings.val, settings, need_labels=True)
    unknown = sorted(set(manifest.classes()) - set(classes))
    if unknown:
        raise IsograftError(
            f"--val {settings.val} holds class '{unknown[0]}', which {settings.data} does not; the classes are {', '.join(classes)}"
        )
    shared = leaks(seen_rows(rows.manifest, "train", settings.data), manifest)
    if len(shared):
        raise IsograftError(
            f"{len(shared)} images of --val {settings.val} (or their patients) are in {settings.data} too, such as {shared['uri'][0]}; "
            "validation needs images of its own"
        )
    given = np.searchsorted(np.array(classes), manifest.labels().astype(str)).astype(np.int64)
    return ImageCache.build(manifest, preprocess, cache_dir, threads), np.arange(len(manifest)), given, manifest


def _solve_head(
    classifier: Classifier,
    images: ImageCache,
    rows: Partition,
    targets: npt.NDArray[np.int64],
    preprocess: Preprocess,
    plan: Plan,
    seed: int,
) -> None:
    """Set the head to the linear probe's solution."""
    features = embed(classifier.backbone, images, rows.train, preprocess, torch.device("cpu")).numpy()
    weight, bias, strength = fit_probe(features, targets[rows.train], rows.manifest.groups()[rows.train], seed)
    plan.decide("probe_c", strength, "inverse regularisation of the linear probe")
    head: Any = classifier.head
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)


def _warn_of_seen_test_images(start: Start, rows: Partition) -> None:
    """Say early what `evaluate` will refuse."""
    if start.parent is None or not len(rows.test):
        return
    seen = leaks(start.parent.seen(), rows.manifest.take(rows.test))
    if len(seen):
        console.warn(
            f"{len(seen)} of {len(rows.test)} held-out test images (or their patients) were seen when {start.parent.folder} was trained; "
            "evaluate will refuse them: leave them out of the pool"
        )


def _train(settings: FinetuneSettings, run: RunFolder, job: _Job, start: Start, threads: int) -> Model:
    plan, history = job.plan, History(run)
    figures: dict[str, float] = {}
    if plan["strategy"] != "probe":
        figures = _fit(settings, run, job, history, threads)
    else:
        history.write()
    validation = job.validation[3] if settings.val and job.validation else None
    origin = Path(settings.data).stem
    model = save_classifier(run, job.classifier, plan, job.rows, start, job.preprocess, figures, validation, origin)
    run.finish()
    console.say(f"model: {run.path}")
    return model


def _fit(settings: FinetuneSettings, run: RunFolder, job: _Job, history: History, threads: int) -> dict[str, float]:
    """Train everything and leave the chosen weights in the classifier; return the validation figures."""
    plan, train = job.plan, job.rows.train
    policy = training_policy(plan, planned_policy(plan))
    size = plan["image_size"]
    targets = job.targets[train]
    counts = np.bincount(targets, minlength=len(job.rows.manifest.classes()))
    weights = torch.from_numpy(len(targets) / (len(counts) * counts)).float() if plan["class_weights"] else None
    loader = ViewLoader(
        job.images.select(train),
        job.rows.manifest.ids()[train],
        [ViewSpec(1, size, policy)],
        plan["batch_size"],
        settings.seed,
        labels=targets,
        threads=threads,
    )
    module = FinetuneModule(job.classifier, plan, job.preprocess, weights, history, settings.seed)
    selection = BestOnValidation(job.validation[:3] if job.validation else None, job.preprocess, plan, history)
    run_training(
        module,
        lambda position: BatchStream(
            loader, plan["total_steps"], ResolutionSchedule.constant(size), lambda _: [ViewSpec(1, size, policy)], position
        ),
        run,
        history,
        total_steps=plan["total_steps"],
        batch_size=plan["batch_size"],
        precision=plan["precision"],
        what=f"Fine-tuning ({plan['strategy']})",
        callbacks=[selection],
    )
    return selection.restore(job.classifier)
