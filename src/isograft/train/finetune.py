"""`isograft finetune`: a classifier from few labeled images, started anywhere in a chain of transfers."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from isograft import console
from isograft.assess.operating import wanted_points
from isograft.data.fingerprint import fingerprint
from isograft.data.policy import ViewPolicy
from isograft.data.symmetries import harmless
from isograft.errors import IsograftError
from isograft.lineage import leaks
from isograft.model import Model
from isograft.networks.heads import Classifier
from isograft.plan import Plan
from isograft.run import RunFolder
from isograft.settings import FinetuneSettings
from isograft.train.agreement import on_first
from isograft.train.convolutions import decide_convolutions
from isograft.train.course import adopt_changes
from isograft.train.engine import training_device
from isograft.train.evidence import gather
from isograft.train.finetune_plan import plan_finetuning
from isograft.train.fitting import Job
from isograft.train.folds import join_histories, member_rows, train_member
from isograft.train.monitoring import embed
from isograft.train.partition import Partition, partition
from isograft.train.precision import decide_precision
from isograft.train.prepare import Opening, open_training
from isograft.train.probe import fit_probe
from isograft.train.record import save_classifier
from isograft.train.shared_run import training_run
from isograft.train.start import Start
from isograft.train.validation import open_validation
from isograft.train.views import plan_rendering, plan_views, planned_policy


def finetune(settings: FinetuneSettings) -> Model:
    """Fine-tune a classifier and write its model folder.

    Returns:
        The finished model; its held-out test rows are in split.parquet for `evaluate`.

    Raises:
        IsograftError: Bad input, an existing folder, one class only, too few labels.
        RunInterrupted: Ctrl-C; the state is saved and `resume=True` continues.
    """
    with training_run(settings) as run:
        if run.resumed and (settings.out / "model.json").exists():
            run.finish()  # killed at the very end, a run has not come to that
            console.say(f"{settings.out} is finished already; nothing to resume")
            return Model.load(settings.out)
        opening = open_training(run, settings)
        job = _prepare(opening)
        adopt_changes(opening.plan, len(job.members))
        opening.plan.adopt(on_first(opening.plan.dump))
        opening.plan.refuse_unknown()
        run.remember(plan=opening.plan.dump())
        console.say("plan:")
        opening.plan.tell()
        _warn_of_seen_test_images(opening.start, job.rows)
        return _train(run, job)


def _prepare(opening: Opening[FinetuneSettings]) -> Job:
    """Take every decision, decode the images once, and solve the first heads."""
    settings, plan, manifest, start = opening.settings, opening.plan, opening.manifest, opening.start
    device = training_device()
    preprocess = opening.decide_input(device)
    wanted_points(settings.operating_point, manifest.classes())  # refused now, not after hours of training
    rows = partition(settings, manifest, plan)
    members = member_rows(settings, rows, plan)
    targets = manifest.class_numbers()
    validated = settings.val is not None or len(rows.val) > 0
    backbone = start.build(preprocess.image_size).to(memory_format=torch.channels_last)
    if settings.operating_point and not validated and settings.folds is None and settings.strategy != "probe":
        raise IsograftError(
            f"--operating-point '{settings.operating_point[0]}' needs images kept from the training, and none will be: add --folds 5, "
            "--val-fraction 0.2 or --val DATA"
        )
    started, kept, fewest = bool(start.weights.tensors), start.keeps_statistics, min(len(member) for member in members)
    plan_finetuning(plan, settings, train_images=fewest, validated=validated, started=started, kept_statistics=kept)
    images = opening.cached(manifest, preprocess)
    validation = open_validation(opening, rows, images, targets, preprocess)
    job = Job(opening, images, rows, members, targets, preprocess, validation)
    if plan["strategy"] in {"probe", "probe-then-full"}:
        on_first(lambda: _solve_heads(job, backbone.to(device), device))
    policy = _views(job)
    if plan["strategy"] != "probe":
        begun, size = "precision" in plan, preprocess.image_size
        on_first(lambda: decide_precision(plan, settings.precision, backbone, size, size, device))
        if not begun:  # a resumed run goes on as it began, also one that an earlier version began
            on_first(lambda: decide_convolutions(plan, backbone, device))
            plan_rendering(plan, device)
    plan.state("symmetries", list(harmless(policy)), "turns and mirror images that leave the meaning unchanged, for --tta")
    return job


def _views(job: Job) -> ViewPolicy:
    """Vary images as in the pretraining, whose pool is larger than any labeled set; without one, measure all images but the test's."""
    settings, start = job.opening.settings, job.opening.start
    plan = job.opening.plan if job.opening.plan["strategy"] != "probe" else Plan()  # a probe sees the images as they are
    if "views" in plan:
        return planned_policy(plan)
    inherited = start.parent_decision("views")
    if settings.domain == "auto" and inherited is not None:
        plan.state("domain", start.parent_decision("domain"), f"as {settings.init} was pretrained")
        plan.decide("views", inherited, f"as {settings.init} was pretrained")
        return planned_policy(plan)
    measured = np.setdiff1d(np.arange(len(job.rows.manifest)), job.rows.test)
    plan_views(plan, settings.domain, fingerprint(job.images.select(measured), job.opening.short_sides()[measured], settings.seed))
    return planned_policy(plan)


def _solve_heads(job: Job, backbone: nn.Module, device: torch.device) -> None:
    """Put the linear probe's solution for every network into the job; the other processes get it with the first one's weights."""
    job.features = features = embed(backbone, job.images, job.rows.train, job.preprocess, device).numpy()
    for member in job.members:
        mine = features[np.searchsorted(job.rows.train, member)]
        job.probes.append(fit_probe(mine, job.targets[member], job.groups[member], job.opening.settings.seed))
    strengths = [probe.strength for probe in job.probes]
    job.opening.plan.state("probe_c", strengths if len(strengths) > 1 else strengths[0], job.probes[0].reason)


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


def _tell_judgement(model: Model) -> None:
    """Say what the model cannot tell of its own answers."""
    judgement = model.judgement()
    if judgement.missing:
        console.warn(f"no temperature, threshold or prediction set was fitted: {judgement.missing}")
    elif always := judgement.always_held:
        console.warn(f"too few images of {', '.join(always)} were held out to leave the class out of any prediction set; label more of it")
    for point in judgement.points:
        if point.threshold is None:
            console.warn(f"no threshold could be chosen for '{point.name}': too few held-out images; label more of class {point.of}")


def _train(run: RunFolder, job: Job) -> Model:
    trained = [train_member(run, job, number) for number in range(len(job.members))]
    on_first(lambda: _finish(run, job, trained))
    return Model.load(run.path)


def _finish(run: RunFolder, job: Job, trained: list[tuple[Classifier, dict[str, float]]]) -> None:
    """Ask the networks about the images they were not trained on, and write the model folder."""
    networks = [classifier for classifier, _ in trained]
    if len(networks) > 1:
        join_histories(run, len(networks))
    model = save_classifier(run, job, networks, trained[0][1], gather(job, list(networks)))
    _tell_judgement(model)
    run.finish()
    console.say(f"model: {run.path}")
