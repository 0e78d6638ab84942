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
from isograft.data.preprocess import Preprocess
from isograft.lineage import leaks
from isograft.model import Model
from isograft.networks.backbones import feature_count
from isograft.networks.heads import Classifier, build_head
from isograft.run import RunFolder, run_folder
from isograft.settings import FinetuneSettings
from isograft.train.callbacks import History
from isograft.train.engine import run_training, training_device
from isograft.train.finetune_module import FinetuneModule
from isograft.train.finetune_plan import plan_finetuning, training_policy
from isograft.train.monitoring import embed
from isograft.train.pace import Pace
from isograft.train.partition import Partition, partition
from isograft.train.precision import decide_precision
from isograft.train.prepare import Opening, open_training
from isograft.train.probe import fit_probe
from isograft.train.record import save_classifier
from isograft.train.schedule import ResolutionSchedule
from isograft.train.selection import BestOnValidation
from isograft.train.start import Start
from isograft.train.stream import BatchStream
from isograft.train.validation import Validation, open_validation
from isograft.train.views import plan_views, planned_policy


@dataclass(frozen=True)
class _Job:
    """What a prepared run consists of."""

    opening: Opening[FinetuneSettings]
    classifier: Classifier
    images: ImageCache
    rows: Partition
    targets: npt.NDArray[np.int64]
    preprocess: Preprocess
    validation: Validation | None


def finetune(settings: FinetuneSettings) -> Model:
    """Fine-tune a classifier and write its model folder.

    Returns:
        The finished model; its held-out test rows are in split.parquet for `evaluate`.

    Raises:
        IsograftError: Bad input, an existing folder, one class only, too few labels.
        RunInterrupted: Ctrl-C; the state is saved and `resume=True` continues.
    """
    with run_folder(settings.out, settings.fixed, settings.resume) as run:
        if settings.resume and (settings.out / "model.json").exists():
            console.say(f"{settings.out} is finished already; nothing to resume")
            return Model.load(settings.out)
        opening = open_training(run, settings)
        job = _prepare(opening)
        opening.plan.refuse_unknown()
        run.remember(plan=opening.plan.dump())
        console.say("plan:")
        opening.plan.tell()
        _warn_of_seen_test_images(opening.start, job.rows)
        return _train(run, job)


def _prepare(opening: Opening[FinetuneSettings]) -> _Job:
    """Take every decision, decode the images once, and build the network with its first head."""
    settings, plan, manifest, start = opening.settings, opening.plan, opening.manifest, opening.start
    device = training_device()
    classes = manifest.classes()
    preprocess = opening.decide_input(device)
    rows = partition(settings, manifest, plan)
    targets = manifest.class_numbers()
    validated = settings.val is not None or len(rows.val) > 0
    backbone = start.build(preprocess.image_size).to(memory_format=torch.channels_last)
    started, kept = bool(start.weights.tensors), start.keeps_statistics
    plan_finetuning(plan, settings, train_images=len(rows.train), validated=validated, started=started, kept_statistics=kept)
    images = opening.cached(manifest, preprocess)
    validation = open_validation(opening, rows, images, targets, preprocess)
    kind = "paper" if plan["strategy"] == "paper" and start.backbone.startswith("alzubaidi") else "linear"
    classifier = Classifier(backbone, build_head(kind, feature_count(backbone), len(classes)))
    job = _Job(opening, classifier, images, rows, targets, preprocess, validation)
    if plan["strategy"] in {"probe", "probe-then-full"}:
        _solve_head(job, device)
    if plan["strategy"] != "probe" and "views" not in plan:
        _plan_views(job)
        decide_precision(plan, settings.precision, backbone, preprocess.image_size, preprocess.image_size, device)
    return job


def _plan_views(job: _Job) -> None:
    """Vary images as in the pretraining, whose pool is larger than any labeled set; without one, measure all images but the test's."""
    settings, plan, start = job.opening.settings, job.opening.plan, job.opening.start
    inherited = start.parent_decision("views")
    if settings.domain == "auto" and inherited is not None:
        plan.state("domain", start.parent_decision("domain"), f"as {settings.init} was pretrained")
        plan.decide("views", inherited, f"as {settings.init} was pretrained")
        return
    measured = np.setdiff1d(np.arange(len(job.rows.manifest)), job.rows.test)
    plan_views(plan, settings.domain, fingerprint(job.images.select(measured), job.opening.short_sides()[measured], settings.seed))


def _solve_head(job: _Job, device: torch.device) -> None:
    """Set the head to the linear probe's solution."""
    train, plan = job.rows.train, job.opening.plan
    features = embed(job.classifier.backbone.to(device), job.images, train, job.preprocess, device).numpy()
    weight, bias, strength, reason = fit_probe(features, job.targets[train], job.rows.manifest.groups()[train], job.opening.settings.seed)
    plan.state("probe_c", strength, reason)
    head: Any = job.classifier.head
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


def _train(run: RunFolder, job: _Job) -> Model:
    opening, history = job.opening, History(run)
    figures: dict[str, float] = {}
    if opening.plan["strategy"] != "probe":
        figures = _fit(run, job, history)
    else:
        history.write()
    further = job.validation.manifest if job.validation is not None and job.validation.given else None
    origin = Path(opening.settings.data).stem
    model = save_classifier(run, job.classifier, opening.plan, job.rows, opening.start, job.preprocess, figures, further, origin)
    run.finish()
    console.say(f"model: {run.path}")
    return model


def _fit(run: RunFolder, job: _Job, history: History) -> dict[str, float]:
    """Train everything and leave the chosen weights in the classifier; return the validation figures."""
    plan, train, seed = job.opening.plan, job.rows.train, job.opening.settings.seed
    size, targets = plan["image_size"], job.targets[train]
    views = [ViewSpec(1, size, training_policy(plan, planned_policy(plan)))]
    loader = ViewLoader(
        job.images.select(train),
        job.rows.manifest.ids()[train],
        views,
        plan["batch_size"],
        seed,
        labels=targets,
        threads=job.opening.threads,
    )
    weights = _class_weights(targets, len(job.rows.manifest.classes())) if plan["class_weights"] else None
    module = FinetuneModule(job.classifier, plan, job.preprocess, weights, history, seed)
    selection = BestOnValidation(job.validation, job.preprocess, plan, history)
    pace = Pace(plan)
    run_training(
        module,
        lambda position: BatchStream(loader, pace, ResolutionSchedule.constant(size), lambda _: views, position),
        run,
        history,
        pace=pace,
        batch_size=plan["batch_size"],
        precision=plan["precision"],
        what=f"Fine-tuning ({plan['strategy']})",
        callbacks=[selection],
    )
    return selection.restore(job.classifier)


def _class_weights(targets: npt.NDArray[np.int64], classes: int) -> torch.Tensor:
    """Weights that make every class count the same: float32 (K,), the inverse of its share of N targets, over K."""
    counts = np.bincount(targets, minlength=classes)
    return torch.from_numpy(len(targets) / (classes * counts)).float()
