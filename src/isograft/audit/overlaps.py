"""What two data sets share, or a data set and what a model has seen: images and patients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from isograft.audit.checks import LISTED, as_pairs, described, places, reasons
from isograft.audit.copies import disagreements, sets_of
from isograft.audit.findings import Finding
from isograft.audit.survey import Survey
from isograft.lineage import leaks

if TYPE_CHECKING:
    from isograft.model import Model


def between(one: Survey, other: Survey, numbers: tuple[int, int], pairs: pl.DataFrame) -> Iterator[Finding]:
    """Images of one data set in another, and groups in both.

    Args:
        one: A data set.
        other: Another.
        numbers: Their numbers in the audit.
        pairs: What `isograft.audit.copies.copies` found.
    """
    where = f"{one.name} and {other.name}"
    if len(pairs):
        told = (
            f"{pairs['row'].n_unique():,} of {len(one.manifest):,} images of {one.name}, or near-duplicates of them, stand in {other.name} "
            f"too ({reasons(pairs)}); what is pretrained or trained on one cannot be tested on the other."
        )
        shown = pairs.head(LISTED)
        yield Finding("leak", "bad", where, told, len(pairs), described(one, other, shown), places(*numbers, shown))
        found = _conflicts(one, other, pairs)
        if found:
            told = f"{len(found):,} pictures have one label in {one.name} and another in {other.name}; find out which is right."
            chosen = as_pairs(found[:LISTED])
            yield Finding("conflict", "bad", where, told, len(found), described(one, other, chosen), places(*numbers, chosen))
    shared = {*one.manifest.frame["group"].drop_nulls()} & {*other.manifest.frame["group"].drop_nulls()}
    if shared:
        images = one.manifest.frame.with_columns(one.uris).filter(pl.col("group").is_in([*shared]))
        told = (
            f"{len(shared):,} groups (patients, lesions) have images in both, {len(images):,} of them in {one.name}; keep a group in "
            "one of the two, or give groups distinct names if they are not the same ones."
        )
        yield Finding("leak", "bad", where, told, len(shared), images.select("uri").head(LISTED))


def _conflicts(one: Survey, other: Survey, pairs: pl.DataFrame) -> list[tuple[int, int]]:
    """A row of the one and a row of the other data set, for every picture with different labels in the two."""
    first = len(one.manifest)
    joined = pl.concat([frame.select("pixel_hash", "label") for frame in (one.manifest.frame, other.manifest.frame)])
    edges = pairs.select("row", pl.col("other") + first)
    sets = sets_of(len(joined), edges, joined["pixel_hash"].to_list())
    sides = (np.arange(len(joined)) >= first).astype(np.int64)
    found = disagreements(sets, joined["label"].to_list(), sides)
    return [(min(pair), max(pair) - first) for pair in found]


def seen_by(model: Model, one: Survey) -> Iterator[Finding]:
    """Images that a model or an ancestor of it was trained or tuned on: same pixels, near-duplicates, same group."""
    found = leaks(model.seen(), one.manifest)
    where = f"{one.name} and the model {model.folder.name}"
    if not len(found):
        told = f"No image of {one.name}, no near-duplicate of one and no image of the same group was seen by the model {model.folder.name}."
        yield Finding("leak", "note", where, told)
        return
    told = (
        f"{len(found):,} of {len(one.manifest):,} images were seen by the model {model.folder.name} or an ancestor of it "
        f"({reasons(found)}); leave them out of any test of it."
    )
    yield Finding("leak", "bad", where, told, len(found), found.with_columns(one.uris[found["row"]]).drop("row").head(LISTED))
