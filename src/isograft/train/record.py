"""Writes what a training made: the model folder with its passport, lineage and the list of what was seen."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors.torch import save
from torch import nn

from isograft import console
from isograft.data.manifest import Manifest
from isograft.data.places import CASE_EMBEDDINGS_FILE, CASES_FILE, HELD_OUT_FILE, SPLIT_FILE, THUMBNAILS_FILE, describe_place, short_name
from isograft.data.preprocess import Preprocess
from isograft.judgement import judge
from isograft.lineage import merge_seen, seen_rows
from isograft.model import BackboneRecord, Model, Passport
from isograft.networks.backbones import feature_count
from isograft.networks.ensemble import Ensemble
from isograft.networks.heads import Classifier, PaperHead
from isograft.plan import Plan
from isograft.run import RunFolder, environment
from isograft.seal import without_seal
from isograft.ssl.method import Method
from isograft.thumbnails import thumbnail_table
from isograft.train.evidence import Evidence
from isograft.train.fitting import Job
from isograft.train.folds import fold_of
from isograft.train.partition import Partition
from isograft.train.start import Start

PAPER = (
    "Alzubaidi et al., Novel Transfer Learning Approach for Medical Imaging with Limited Labeled Data, Cancers 2021, 13(7):1590, "
    "doi:10.3390/cancers13071590"
)


def save_backbone(
    run: RunFolder,
    method: Method,
    plan: Plan,
    manifest: Manifest,
    start: Start,
    preprocess: Preprocess,
    figures: Mapping[str, float],
    origin: str,
) -> Model:
    """Write the model folder of a pretraining run.

    Args:
        run: The output folder, whose history.csv is listed too.
        method: The trained method; the network it exports is kept.
        plan: Every decision.
        manifest: The pool.
        start: Where the weights began.
        preprocess: The one preprocessing.
        figures: Last figures of the embedding.
        origin: Name of the pool.
    """
    network = method.export_backbone()
    passport = _passport(start, plan, preprocess, feature_count(network), figures, [_described(manifest, "pretrain", origin)])
    passport = passport.model_copy(update={"method": plan["method"], "citations": [*_citations(start), method.citation]})
    own = seen_rows(manifest, "pretrain", origin)
    return Model.write(run.path, passport, network.state_dict(), _with_ancestors(start, own), _extra(run))


def save_classifier(
    run: RunFolder,
    job: Job,
    networks: Sequence[Classifier],
    figures: Mapping[str, float],
    evidence: Evidence,
) -> Model:
    """Write the model folder of a fine-tuning run, with its split, its labeled cases, and how its answers are to be taken.

    Args:
        run: The output folder.
        job: What was trained: plan, rows, start, preprocessing.
        networks: The trained networks.
        figures: Validation figures of the kept weights.
        evidence: What they say of images they were not trained on.
    """
    rows, start, plan = job.rows, job.opening.start, job.opening.plan
    validation = job.validation.manifest if job.validation is not None and job.validation.given else None
    data, seen = _parts(rows, validation, Path(job.opening.settings.data).stem)
    head: Any = networks[0].head
    passport = _passport(start, plan, job.preprocess, _features(head), figures, data).model_copy(
        update={
            "kind": "classifier",
            "head": "paper" if isinstance(head, PaperHead) else "linear",
            "members": len(networks),
            "classes": rows.manifest.classes(),
            "method": plan["strategy"],
            "citations": _citations(start),
            "judgement": judge(evidence, rows.manifest.classes(), job.opening.settings.operating_point, job.opening.settings.coverage),
        }
    )
    extra = {**_extra(run), SPLIT_FILE: _split_bytes(run, rows), **_case_files(job, evidence)}
    network = Ensemble(networks) if len(networks) > 1 else networks[0]
    return Model.write(run.path, passport, network.state_dict(), _with_ancestors(start, seen), extra)


def _case_files(job: Job, evidence: Evidence) -> dict[str, bytes]:
    """The labeled images the networks were trained on, how each network embeds them, and the answers to images held out from training."""
    frame, _ = job.rows.manifest.portable()
    table = frame.select("id", "uri", "label")[evidence.case_rows]
    if len(evidence.embedded) > 1:
        table = table.with_columns(fold=fold_of(job)[np.searchsorted(job.rows.train, evidence.case_rows)])
    arrays = np.stack([one.cases for one in evidence.embedded], axis=1)
    files = {CASES_FILE: _parquet(table), CASE_EMBEDDINGS_FILE: save({"embeddings": torch.from_numpy(arrays)})}
    if job.opening.settings.keep_thumbnails:
        files[THUMBNAILS_FILE] = _parquet(thumbnail_table(table, (job.images[int(row)] for row in evidence.case_rows)))
    if not evidence.missing:
        classes = job.rows.manifest.classes()
        labels = [classes[number] for number in evidence.labels]
        numbers = np.unique(evidence.groups, return_inverse=True)[1]  # which images belong together, not to whom
        held = pl.DataFrame({"id": evidence.ids, "label": labels, "group": numbers})
        logits = pl.DataFrame({f"logit_{name}": evidence.logits[:, number] for number, name in enumerate(classes)})
        files[HELD_OUT_FILE] = _parquet(pl.concat([held, logits], how="horizontal"))
    return files


def _parquet(table: pl.DataFrame) -> bytes:
    content = io.BytesIO()
    table.write_parquet(content)
    return content.getvalue()


def _parts(rows: Partition, validation: Manifest | None, origin: str) -> tuple[list[dict[str, Any]], pl.DataFrame]:
    """What the passport says of the data, part by part, and what must be remembered of the images that were trained or tuned on."""
    parts = [("train", rows.manifest.take(rows.train)), ("val", rows.manifest.take(rows.val))]
    held = rows.manifest.take(rows.test)
    given = [("val", validation)] if validation is not None else []
    data = [_described(part, role, origin) for role, part in [*parts, ("test", held), *given] if len(part)]
    return data, pl.concat([seen_rows(part, role, origin) for role, part in [*parts, *given] if len(part)])


def _split_bytes(run: RunFolder, rows: Partition) -> bytes:
    """The content of split.parquet, which names no folder above its images; where they lie is written to run.json."""
    table, folder = rows.table()
    run.remember(images=describe_place(folder, run.path))
    if folder == Path(folder.anchor):
        console.warn(f"the images lie in folders without a common one, so {SPLIT_FILE} names where; do not hand it on if that is private")
    if left_out := [name for name in rows.manifest.frame.columns if name not in table.columns]:
        console.say(f"{SPLIT_FILE} leaves out the columns that hold absolute paths: {', '.join(left_out)}")
    return _parquet(table)


def _passport(
    start: Start, plan: Plan, preprocess: Preprocess, features: int, figures: Mapping[str, float], data: list[dict[str, Any]]
) -> Passport:
    parent = start.parent
    return Passport(
        kind="backbone",
        backbone=BackboneRecord(name=start.backbone, arguments=start.arguments, features=features),
        preprocess=preprocess,
        method="",
        plan=_placeless(plan, start.init),
        parents=[parent.passport.parent_entry()] if parent is not None else [],
        data=data,
        metrics=dict(figures),
        software=environment(),
        init={"source": start.describe(), "licence": start.weights.licence, "account": start.account.dump() if start.account else None},
    )


def _placeless(plan: Plan, init: str) -> list[dict[str, Any]]:
    """The decisions, with the file or folder started from called by its name alone."""
    place = without_seal(init)
    name = short_name(place) if place.exists() else init
    word = re.compile(rf"(?<!\S){re.escape(init)}(?!\S)")
    return [
        {**entry, "value": name if entry["value"] == init else entry["value"], "reason": word.sub(lambda _: name, entry["reason"])}
        for entry in plan.dump()
    ]


def _with_ancestors(start: Start, own: pl.DataFrame) -> pl.DataFrame:
    """Add what the ancestors saw, so that a leak can be found years later without the pool."""
    return merge_seen([start.parent.seen()] if start.parent is not None else [], own)


def _citations(start: Start) -> list[str]:
    inherited = start.parent.passport.citations if start.parent is not None else []
    return list(dict.fromkeys([PAPER, *inherited, *start.weights.citations]))


def _described(manifest: Manifest, role: str, origin: str) -> dict[str, Any]:
    """The passport's entry for a data set."""
    return {
        "role": role,
        "name": origin,
        "fingerprint": manifest.fingerprint(),
        "images": len(manifest),
        "groups": len(set(manifest.groups())),
        "classes": manifest.classes(),
    }


def _extra(run: RunFolder) -> dict[str, bytes | str | Path]:
    history = run.path / "history.csv"
    return {"history.csv": history} if history.is_file() else {}


def _features(head: nn.Module) -> int:
    first = head.hidden if isinstance(head, PaperHead) else head
    return int(first.in_features)  # type: ignore[arg-type]
