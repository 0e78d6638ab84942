"""Fits one classifier to its training rows: the head by a linear probe, then everything."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from isograft.data.cache import ImageCache
from isograft.data.duplicates import bound_groups
from isograft.data.loader import ViewLoader, ViewSpec
from isograft.data.preprocess import Preprocess
from isograft.networks.backbones import feature_count
from isograft.networks.heads import Classifier, build_head
from isograft.run import RunFolder
from isograft.settings import FinetuneSettings
from isograft.ssl.gather import rank, world_size
from isograft.train.callbacks import History
from isograft.train.convolutions import apply_convolutions
from isograft.train.course import Course, which_of
from isograft.train.engine import run_training
from isograft.train.finetune_module import FinetuneModule
from isograft.train.finetune_plan import training_policy
from isograft.train.pace import Pace
from isograft.train.partition import Partition, Rows
from isograft.train.prepare import Opening
from isograft.train.probe import Probe
from isograft.train.recovery import recovery_steps
from isograft.train.schedule import ResolutionSchedule
from isograft.train.selection import BestOnValidation
from isograft.train.stream import BatchStream
from isograft.train.validation import Validation
from isograft.train.views import planned_policy, rendering_options


@dataclass
class Job:
    """What a prepared fine-tuning consists of.

    Attributes:
        opening: The opened run.
        images: The labeled data's working-size images.
        rows: Who does what in the labeled data.
        members: Training rows of every network: one, or one per fold.
        targets: int64 (N,) class number of each labeled image.
        preprocess: The one preprocessing.
        validation: The images that choose when to stop; None where there are none.
        features: float32 (T, D) of the T training rows by the backbone as it starts; None where no probe is solved, or not by this process.
        probes: The solved head of every member; empty where no probe is solved, or not by this process.
    """

    opening: Opening[FinetuneSettings]
    images: ImageCache
    rows: Partition
    members: list[Rows]
    targets: npt.NDArray[np.int64]
    preprocess: Preprocess
    validation: Validation | None
    features: npt.NDArray[np.float32] | None = None
    probes: list[Probe] = field(default_factory=list)

    @cached_property
    def groups(self) -> npt.NDArray[np.object_]:
        """What must stay on one side of a split, for each labeled image: (N,)."""
        return bound_groups(self.rows.manifest)


def untrained(job: Job, number: int) -> Classifier:
    """The network of a member before any step, its head solved where the plan says so."""
    opening, classes = job.opening, job.rows.manifest.classes()
    torch.manual_seed(opening.settings.seed + number)
    backbone = opening.start.build(job.preprocess.image_size).to(memory_format=torch.channels_last)
    kind = "paper" if opening.plan["strategy"] == "paper" and opening.start.backbone.startswith("alzubaidi") else "linear"
    classifier = Classifier(backbone, build_head(kind, feature_count(backbone), len(classes)))
    if job.probes:
        head: Any = classifier.head
        with torch.no_grad():
            head.weight.copy_(job.probes[number].weight)
            head.bias.copy_(job.probes[number].bias)
    return classifier


def fit(run: RunFolder, job: Job, number: int, classifier: Classifier, history: History) -> dict[str, float]:
    """Train everything and leave the chosen weights in the classifier; return the validation figures.

    Args:
        run: Where the state is saved.
        job: The prepared run.
        number: Which member.
        classifier: Its network.
        history: Where figures are kept.
    """
    plan, train, seed = job.opening.plan, job.members[number], job.opening.settings.seed + number
    size, targets = plan["image_size"], job.targets[train]
    views = [ViewSpec(1, size, training_policy(plan, planned_policy(plan)))]
    loader = ViewLoader(
        job.images.select(train),
        job.rows.manifest.ids()[train],
        views,
        plan["batch_size"],
        seed,
        labels=targets,
        rank=rank(),
        world_size=world_size(),
        threads=job.opening.threads,
        **rendering_options(plan),
    )
    apply_convolutions(plan, classifier)
    weights = _class_weights(targets, len(job.rows.manifest.classes())) if plan["class_weights"] else None
    course = Course(plan, job.opening.run, which_of(number) if len(job.members) > 1 else "")
    module = FinetuneModule(classifier, plan, job.preprocess, weights, history, seed, course)
    selection = BestOnValidation(job.validation, job.preprocess, plan, history)
    pace = Pace(plan)
    which = f", fold {number + 1} of {len(job.members)}" if len(job.members) > 1 else ""
    run_training(
        module,
        lambda position: BatchStream(loader, pace, ResolutionSchedule.constant(size), lambda _: views, position),
        run,
        history,
        pace=pace,
        batch_size=plan["batch_size"],
        precision=plan["precision"],
        what=f"Fine-tuning ({plan['strategy']}{which})",
        callbacks=[selection],
        save_every=recovery_steps(pace.total),
    )
    return selection.restore(classifier)


def _class_weights(targets: npt.NDArray[np.int64], classes: int) -> torch.Tensor:
    """Weights that make every class count the same: float32 (K,), the inverse of its share of N targets, over K."""
    counts = np.bincount(targets, minlength=classes)
    return torch.from_numpy(len(targets) / (classes * counts)).float()
