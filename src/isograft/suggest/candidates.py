"""Which images may be suggested: readable, not labeled yet, each once; and which of them belong together."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from isograft import console
from isograft.data.decode import Facts, decode_all
from isograft.data.duplicates import copies_of, near_duplicates
from isograft.data.hashing import group_hash
from isograft.data.manifest import Manifest
from isograft.data.places import SPLIT_FILE
from isograft.data.remote import io_threads
from isograft.data.selection import holds
from isograft.data.splits import bind, keyed_rank
from isograft.errors import IsograftError
from isograft.inference import MAX_PIXELS
from isograft.inputs import Inputs
from isograft.settings import SuggestSettings

if TYPE_CHECKING:
    from isograft.model import Model

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

LABELED_ROLES = ("train", "val")
_FACTS = ("pixel_hash", "perceptual_hash", "look", "status", "reason")
_KINDS = dict(zip(_FACTS, (pl.String, pl.UInt64, pl.String, pl.String, pl.String), strict=True))


@dataclass(frozen=True)
class Candidates:
    """What may be suggested, among the rows of the pool.

    Attributes:
        rows: int64 (N,) rows of the inputs, in an order that depends on pixels and seed alone.
        ids: N ids.
        groups: int64 (N,) numbers of the groups: patients of the column `group`, joined where they share a picture.
        turns: int64 (G,) how many images of each group are labeled.
        labeled: int64 (L,) rows of the inputs that carry a label in the pool.
    """

    rows: Rows
    ids: list[str]
    groups: Rows
    turns: Rows
    labeled: Rows


def find_candidates(settings: SuggestSettings, inputs: Inputs, model: Model) -> Candidates:
    """Leave out what cannot be read, what is labeled, and what is there twice; say how many of each.

    Raises:
        IsograftError: Nothing is left.
    """
    facts = _facts(settings, inputs)
    usable = (facts["status"] == "ok").to_numpy()
    _tell_bad(facts, usable)
    labeled = usable & _labels(inputs)
    known = _labeled_pixels(model, facts) & usable & ~labeled
    fresh = np.flatnonzero(usable & ~labeled & ~known)
    already = set(facts["pixel_hash"].to_numpy()[labeled])
    first: dict[str, int] = {}
    for row in fresh.tolist():
        first.setdefault(facts["pixel_hash"][row], row)
    rows = np.array([row for pixels, row in first.items() if pixels not in already], dtype=np.int64)
    for count, what in (
        (int(labeled.sum()), "have a label in the pool"),
        (int(known.sum()), f"are labeled images of {settings.model}"),
        (len(fresh) - len(rows), "have the very pixels of another image"),
    ):
        if count:
            console.say(f"{count:,} of {len(facts):,} images {what} and are not suggested")
    if not len(rows):
        raise IsograftError(
            f"{settings.input} has no image left to label: of {len(facts):,}, {int(usable.sum()):,} can be read, and all of them are "
            "labeled; give images without a label, and where labels are but names of folders, ingest with --drop-labels"
        )
    ids = [str(facts["pixel_hash"][row])[:16] for row in rows.tolist()]
    order = np.argsort(keyed_rank(ids, settings.seed, "suggest"), kind="stable")
    rows, ids = rows[order], [ids[place] for place in order]
    groups, turns = _groups(facts, inputs, rows, np.flatnonzero(labeled), model)
    return Candidates(rows, ids, groups, turns, np.flatnonzero(labeled))


def _facts(settings: SuggestSettings, inputs: Inputs) -> pl.DataFrame:
    """Hashes and status of every input: from the manifest, or else from the files."""
    path = Path(settings.input).expanduser()
    if path.suffix.lower() == ".parquet" and path.is_file():
        frame = Manifest.read(path).frame
        frame = frame.filter(holds(frame, settings.where, str(path))) if settings.where else frame
        return frame.select(pl.col(name).cast(_KINDS[name]) for name in _FACTS)
    places = [place for place in inputs.places if place is not None]
    threads = settings.threads or io_threads(places, os.cpu_count() or 1)
    with console.Progress(len(places), "Looking at images") as progress:
        found = iter(decode_all(places, MAX_PIXELS, threads, progress.advance))
    rows = [
        next(found) if place is not None else Facts(None, None, None, None, None, None, None, *inputs.problems[row])
        for row, place in enumerate(inputs.places)
    ]
    return pl.DataFrame({name: pl.Series([getattr(one, name) for one in rows], dtype=_KINDS[name]) for name in _FACTS})


def _tell_bad(facts: pl.DataFrame, usable: Mask) -> None:
    kinds = Counter(facts.filter(pl.Series(~usable))["status"].to_list())
    if kinds:
        told = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))
        console.warn(f"{sum(kinds.values()):,} of {len(facts):,} inputs cannot be used ({told}) and are not suggested")


def _labels(inputs: Inputs) -> Mask:
    """Which inputs carry a label in the pool's own column `label`."""
    if "label" not in inputs.further.columns:
        return np.zeros(len(inputs.uris), dtype=bool)
    text = inputs.further["label"].cast(pl.String).str.strip_chars()
    return (text.is_not_null() & (text != "")).fill_null(False).to_numpy()


def _labeled_pixels(model: Model, facts: pl.DataFrame) -> Mask:
    """Which inputs have the pixels of an image whose label the model, or an ancestor, was trained, tuned or is to be tested on."""
    seen = model.seen().filter(pl.col("role").is_in(LABELED_ROLES))
    known = facts["pixel_hash"].is_in(seen["pixel_hash"].drop_nulls().unique().implode())
    split = model.folder / SPLIT_FILE
    if split.is_file():
        known = known | facts["pixel_hash"].is_in(Manifest.read(split).frame["pixel_hash"].drop_nulls().unique().implode())
    return known.fill_null(False).to_numpy()


def _groups(facts: pl.DataFrame, inputs: Inputs, rows: Rows, labeled: Rows, model: Model) -> tuple[Rows, Rows]:
    """Numbers of the candidates' groups, int64 (N,), and how many labeled images each group has, int64 (G,)."""
    both = np.concatenate([rows, labeled])
    frame = facts[both]
    given = inputs.further["group"].cast(pl.String)[both] if "group" in inputs.further.columns else pl.Series([None] * len(both))
    alone = [f"image:{pixels}" for pixels in frame["pixel_hash"]]
    names = np.array([name or own for name, own in zip(given, alone, strict=True)], dtype=object)
    pairs = list(near_duplicates(frame))
    if pairs:
        names = bind(names, np.concatenate([one for one, _ in pairs]), np.concatenate([other for _, other in pairs]))
    groups = np.unique(names.astype(str), return_inverse=True)[1].astype(np.int64)
    turns = np.bincount(groups[len(rows) :], minlength=int(groups.max()) + 1).astype(np.int64)
    seen = model.seen().filter(pl.col("role").is_in(LABELED_ROLES))
    known = set(seen["group_hash"].drop_nulls())
    touched = np.array([name is not None and group_hash(name) in known for name in given]) | (copies_of(frame, seen) >= 0)
    np.maximum.at(turns, groups[touched], 1)
    return groups[: len(rows)], turns
