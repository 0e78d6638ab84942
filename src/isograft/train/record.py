"""Writes what a training made: the model folder with its passport, lineage and the list of what was seen."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from torch import nn

from isograft.data.manifest import Manifest
from isograft.data.preprocess import Preprocess
from isograft.lineage import merge_seen, seen_rows
from isograft.model import BackboneRecord, Model, Passport
from isograft.networks.backbones import feature_count
from isograft.networks.heads import Classifier, PaperHead
from isograft.plan import Plan
from isograft.run import RunFolder, environment
from isograft.ssl.method import Method
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
    classifier: Classifier,
    plan: Plan,
    rows: Partition,
    start: Start,
    preprocess: Preprocess,
    figures: Mapping[str, float],
    validation: Manifest | None,
    origin: str,
) -> Model:
    """Write the model folder of a fine-tuning run, with its split.

    Args:
        run: The output folder.
        classifier: The trained network.
        plan: Every decision.
        rows: Who was trained on, validated on and kept for the test.
        start: Where the weights began.
        preprocess: The one preprocessing.
        figures: Validation figures of the kept weights.
        validation: Further data that served for validation.
        origin: Name of the labeled data.
    """
    parts = {"train": rows.manifest.take(rows.train), "val": rows.manifest.take(rows.val)}
    held = rows.manifest.take(rows.test)
    data = [_described(part, role, origin) for role, part in {**parts, "test": held}.items() if len(part)]
    seen = [seen_rows(part, role, origin) for role, part in parts.items() if len(part)]
    if validation is not None:
        data.append(_described(validation, "val", origin))
        seen.append(seen_rows(validation, "val", origin))
    head: Any = classifier.head
    passport = _passport(start, plan, preprocess, _features(head), figures, data).model_copy(
        update={
            "kind": "classifier",
            "head": "paper" if isinstance(head, PaperHead) else "linear",
            "classes": rows.manifest.classes(),
            "method": plan["strategy"],
            "citations": _citations(start),
        }
    )
    split = io.BytesIO()
    rows.table().write_parquet(split)
    extra = {**_extra(run), "split.parquet": split.getvalue()}
    return Model.write(run.path, passport, classifier.state_dict(), _with_ancestors(start, pl.concat(seen)), extra)


def _passport(
    start: Start, plan: Plan, preprocess: Preprocess, features: int, figures: Mapping[str, float], data: list[dict[str, Any]]
) -> Passport:
    parent = start.parent
    return Passport(
        kind="backbone",
        backbone=BackboneRecord(name=start.backbone, arguments=start.arguments, features=features),
        preprocess=preprocess,
        method="",
        plan=plan.dump(),
        parents=[parent.passport.parent_entry()] if parent is not None else [],
        data=data,
        metrics=dict(figures),
        software=environment(),
        init={"source": start.describe(), "licence": start.weights.licence, "account": start.account.dump() if start.account else None},
    )


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
