"""What two data sets share, or a data set and what a model has seen: images and patients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import polars as pl

from isograft.audit.checks import described, disagree, reasons
from isograft.audit.findings import Finding
from isograft.audit.survey import Survey
from isograft.lineage import leaks

if TYPE_CHECKING:
    from isograft.model import Model

_LISTED = 1000


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
        places = [(numbers[0], row, numbers[1], column) for row, column in pairs.select("row", "other").rows()]
        yield Finding("leak", "bad", where, told, len(pairs), described(one, other, pairs), places)
        labels = described(one, other, pairs)
        differ = disagree(labels)
        if differ.any():
            told = f"{differ.sum():,} pairs of copies have one label in {one.name} and another in {other.name}; find out which is right."
            chosen = [place for place, wanted in zip(places, differ, strict=True) if wanted]
            yield Finding("conflict", "bad", where, told, len(chosen), labels.filter(differ), chosen)
    shared = {*one.manifest.frame["group"].drop_nulls()} & {*other.manifest.frame["group"].drop_nulls()}
    if shared:
        images = one.manifest.frame.with_columns(one.uris).filter(pl.col("group").is_in([*shared]))
        told = (
            f"{len(shared):,} groups (patients, lesions) have images in both, {len(images):,} of them in {one.name}; keep a group in "
            "one of the two, or give groups distinct names if they are not the same ones."
        )
        yield Finding("leak", "bad", where, told, len(shared), images.select("uri", "group").head(_LISTED))


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
    yield Finding("leak", "bad", where, told, len(found), found.with_columns(one.uris[found["row"]]).drop("row"))
