"""What a trained classifier says of images it was not trained on, and how it sees the labeled images it was made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import polars as pl
from torch import nn

from isograft.data.cache import ImageCache
from isograft.data.duplicates import bound_groups
from isograft.data.splits import keyed_rank, stratified_folds
from isograft.inference import Answer, answers
from isograft.lineage import leaks
from isograft.train.fitting import Job
from isograft.train.folds import fold_of
from isograft.train.partition import Rows
from isograft.train.probe import fit_probe

MOST_CASES = 5000
_CROSSED = 5

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Embedded:
    """How one network embeds images.

    Attributes:
        cases: float32 (C, D), the labeled images of `Evidence.case_rows`.
        apart: Pairs of embeddings (A, D) it was trained on and (B, D) it was not: what a distance to images never seen looks like.
    """

    cases: Floats
    apart: list[tuple[Floats, Floats]] = field(default_factory=list)


@dataclass(frozen=True)
class Evidence:
    """What the judgement of a model is fitted on.

    Attributes:
        case_rows: int64 (C,) labeled rows whose embeddings are kept, at most `MOST_CASES` of those trained on.
        embedded: One entry per network.
        fitted_on: What the held-out images are, as part of a sentence; empty where there are none, and then `missing` says why.
        missing: Why there is no held-out image.
        logits: float32 (N, K) of the held-out images, each by a network that was not trained on it.
        labels: int64 (N,) their classes.
        groups: (N,) their groups.
        ids: (N,) their ids.
    """

    case_rows: Rows
    embedded: list[Embedded]
    fitted_on: str = ""
    missing: str = ""
    logits: Floats = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    labels: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    groups: npt.NDArray[np.str_] = field(default_factory=lambda: np.zeros(0, np.str_))
    ids: npt.NDArray[np.str_] = field(default_factory=lambda: np.zeros(0, np.str_))


def gather(job: Job, networks: list[nn.Module]) -> Evidence:
    """Ask the trained networks about the labeled images.

    Held-out images are those of the validation split; or, with folds, all training images, each answered by the network of its fold;
    or, for a linear probe on a frozen backbone, all training images, each answered by a head that was solved without its group.

    Args:
        job: The finished training.
        networks: Its classifiers, one per member.
    """
    if len(networks) > 1:
        return _without_seen(job, _of_folds(job, networks))
    if job.validation is not None:
        return _without_seen(job, _of_validation(job, networks[0]))
    if job.opening.plan["strategy"] == "probe":
        return _without_seen(job, _of_crossed_probes(job))
    known = _kept(job, job.rows.train)
    missing = "no labeled image was kept from the training; finetune with --folds 5, with --val DATA, or with more labels"
    return Evidence(known, [Embedded(_embeddings(job, networks[0], known))], missing=missing)


def _without_seen(job: Job, evidence: Evidence) -> Evidence:
    """Leave out the images whose labels an ancestor was trained or tuned on: its descendants answer them too well."""
    parent, validation = job.opening.start.parent, job.validation
    if parent is None or evidence.missing:
        return evidence
    manifest = validation.manifest if validation is not None else job.rows.manifest
    known = parent.seen().filter(pl.col("role").is_in(["train", "val"]))
    seen = manifest.frame["id"].to_numpy()[leaks(known, manifest)["row"].to_numpy()].astype(str)
    kept = ~np.isin(evidence.ids, seen)
    if kept.all():
        return evidence
    if not kept.any():
        return replace(
            evidence, missing="an ancestor of the model was trained on the labels of all images that were held out; use other images"
        )
    told = f"{evidence.fitted_on}, but for {int((~kept).sum()):,} whose labels an ancestor was trained on"
    arrays = {name: getattr(evidence, name)[kept] for name in ("logits", "labels", "groups", "ids")}
    return replace(evidence, fitted_on=told, **arrays)


def _of_validation(job: Job, network: nn.Module) -> Evidence:
    validation = job.validation
    assert validation is not None  # noqa: S101  (asked by the caller)
    known = _kept(job, job.rows.train)
    cases = _embeddings(job, network, known)
    said = list(_ask(job, network, validation.images, validation.rows))
    held = np.stack([answer.embeddings[0] for answer in said])
    chose = "" if job.opening.plan["strategy"] == "paper" else ", which also chose when the training stopped"
    return Evidence(
        known,
        [Embedded(cases, [(cases, held)])],
        f"the {len(said):,} images of the validation {'data' if validation.given else 'split'}{chose}",
        logits=np.stack([answer.logits[0] for answer in said]),
        labels=validation.targets,
        groups=bound_groups(validation.manifest).astype(str),
        ids=np.array(validation.manifest.frame["id"].to_list(), dtype=str),
    )


def _of_crossed_probes(job: Job) -> Evidence:
    """Solve the head again without each of five folds; the frozen backbone was trained on no label."""
    rows, probe, features = job.rows.train, job.probes[0], job.features
    assert features is not None  # noqa: S101  (a probe has features)
    targets, labels, groups = job.targets[rows], job.rows.manifest.labels()[rows], job.groups[rows]
    keep = np.searchsorted(rows, known := _kept(job, rows))
    everything = Embedded(features[keep])
    folds = min(_CROSSED, len(set(groups)), int(np.bincount(targets).max()))
    fold = stratified_folds(labels, groups, folds, job.opening.settings.seed) if folds > 1 else np.full(len(rows), -1)
    used = np.flatnonzero(fold >= 0)
    if not len(used):
        return Evidence(known, [everything], missing="too few groups (patients) were labeled to keep one apart; label more")
    logits = np.zeros((len(rows), len(job.rows.manifest.classes())), np.float32)
    for number in sorted(set(fold[used])):
        held, rest = fold == number, fold != number
        solved = fit_probe(features[rest], targets[rest], groups[rest], job.opening.settings.seed, probe.strength)
        logits[held] = solved.logits(features[held])
        everything.apart.append((features[keep][rest[keep]], features[held]))
    told = f"{len(used):,} training images, each judged by a head that was solved without its group ({folds} folds)"
    return _of_training_rows(job, known, [everything], told, logits, used)


def _of_folds(job: Job, networks: list[nn.Module]) -> Evidence:
    rows, fold = job.rows.train, fold_of(job)
    known = _kept(job, rows)
    keep = np.searchsorted(rows, known)
    logits = np.zeros((len(rows), len(job.rows.manifest.classes())), np.float32)
    embedded = []
    for number, network in enumerate(networks):
        held = np.flatnonzero(fold == number)
        said = list(_ask(job, network, job.images, rows[held]))
        logits[held] = np.stack([answer.logits[0] for answer in said])
        cases, trained = _embeddings(job, network, known), fold[keep] != number
        apart = (cases[trained], np.stack([answer.embeddings[0] for answer in said]))
        embedded.append(Embedded(cases, [apart]))
    used = np.flatnonzero(fold >= 0)
    told = f"{len(used):,} training images, each judged by the one network of {len(networks)} that was not trained on it"
    return _of_training_rows(job, known, embedded, told, logits, used)


def _of_training_rows(job: Job, known: Rows, embedded: list[Embedded], told: str, logits: Floats, used: Rows) -> Evidence:
    """The evidence of those training rows that were held out once: logits (T, K), and which of the T rows were used."""
    rows = job.rows.train[used]
    return Evidence(
        known, embedded, told, logits=logits[used], labels=job.targets[rows], groups=job.groups[rows].astype(str), ids=_ids(job, rows)
    )


def _kept(job: Job, rows: Rows) -> Rows:
    """At most `MOST_CASES` of the rows, in their order, the same for the same images."""
    if len(rows) <= MOST_CASES:
        return rows
    rank = keyed_rank(_ids(job, rows).tolist(), job.opening.settings.seed, "cases")
    return rows[np.sort(np.argsort(rank, kind="stable")[:MOST_CASES])]


def _ids(job: Job, rows: Rows) -> npt.NDArray[np.str_]:
    return np.array(job.rows.manifest.frame["id"].to_list(), dtype=str)[rows]


def _embeddings(job: Job, network: nn.Module, rows: Rows) -> Floats:
    return np.stack([answer.embeddings[0] for answer in _ask(job, network, job.images, rows)])


def _ask(job: Job, network: nn.Module, images: ImageCache, rows: Rows) -> Iterator[Answer]:
    """A network's answers, as `predict` would give them from the files."""
    return answers(network, job.preprocess, (job.preprocess.fit(images[int(row)]) for row in rows))
