"""Cross-validation: one network per fold, each trained on the other folds, finished one after the other and resumable."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save

from isograft import console
from isograft.data.duplicates import bound_groups
from isograft.data.splits import stratified_folds
from isograft.errors import IsograftError
from isograft.networks.heads import Classifier
from isograft.plan import Plan
from isograft.run import MEMBERS_FOLDER, RunFolder, write_atomic
from isograft.settings import FinetuneSettings
from isograft.train.agreement import on_first
from isograft.train.callbacks import History
from isograft.train.fitting import Job, fit, untrained
from isograft.train.partition import Partition, Rows

_WEIGHTS = "weights.safetensors"


def member_rows(settings: FinetuneSettings, rows: Partition, plan: Plan) -> list[Rows]:
    """The training rows of every network: all of them for one, all but a fold for each of several.

    Folds hold whole groups, and every class in proportion. A group without which some class could not be learned is in every network's
    rows.

    Raises:
        IsograftError: There are fewer groups than folds, or none that a fold can hold.
    """
    if settings.folds is None:
        return [rows.train]
    labels, groups = rows.manifest.labels()[rows.train], bound_groups(rows.manifest)[rows.train]
    there = len(set(groups))
    possible = there >= settings.folds <= max(Counter(labels.tolist()).values())
    fold = stratified_folds(labels, groups, settings.folds, settings.seed) if possible else np.zeros(0)
    if len(set(fold) - {-1}) < settings.folds:
        raise IsograftError(
            f"--folds {settings.folds} cannot be filled: {settings.data} has {there} groups (patients) to train on, and every class must "
            "stay in the other folds; use fewer folds, or label more groups"
        )
    spared = sorted({str(name) for name in labels[fold == -1]})
    if spared:
        console.warn(f"class {', '.join(spared)} has too few groups (patients) to be held out of any fold, so nothing is calibrated on it")
    plan.state("folds", settings.folds, "as asked: a network per fold, trained on the others; they answer together")
    return [rows.train[fold != number] for number in range(settings.folds)]


def train_member(run: RunFolder, job: Job, number: int) -> tuple[Classifier, dict[str, float]]:
    """Train one network, or find it trained; return it with its validation figures.

    Raises:
        RunInterrupted: Ctrl-C; the state is saved.
    """
    own = run if len(job.members) == 1 else RunFolder(run.path / MEMBERS_FOLDER / str(number), run.resumed, leads=run.leads)
    done = own.path / _WEIGHTS
    classifier = untrained(job, number)
    if on_first(done.is_file):
        classifier.load_state_dict(load_file(done))
        return classifier, {}
    history, figures = History(own), {}
    if own.leads:
        own.path.mkdir(parents=True, exist_ok=True)
    if job.opening.plan["strategy"] != "probe":
        figures = fit(own, job, number, classifier, history)
    else:
        history.write()
    if own is not run and own.leads:
        write_atomic(done, save({name: tensor.contiguous() for name, tensor in classifier.state_dict().items()}))
        own.finish()
    return classifier, figures


def join_histories(run: RunFolder, members: int) -> None:
    """Write one history.csv from those of the folds, with the column `fold`."""
    history = History(run)
    for number in range(members):
        with Path(run.path / MEMBERS_FOLDER / str(number) / "history.csv").open(newline="", encoding="utf-8") as stream:
            history.rows += [{"fold": number, **{name: value for name, value in row.items() if value}} for row in csv.DictReader(stream)]
    history.write()


def fold_of(job: Job) -> Rows:
    """Which fold each training row is held out in, -1 for none: int64 (T,) in the order of `job.rows.train`."""
    fold = np.full(len(job.rows.train), -1, dtype=np.int64)
    for number, kept in enumerate(job.members):
        fold[~np.isin(job.rows.train, kept)] = number
    return fold
