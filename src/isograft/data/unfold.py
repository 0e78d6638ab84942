"""Files that hold several images become several rows: frames of DICOM, tiles of slides."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path, PurePosixPath

import numpy as np
import polars as pl

from isograft import console
from isograft.data.address import Address
from isograft.data.containers import Part, parts_or_reason
from isograft.data.files import ImageFile
from isograft.data.manifest import MEMBER, decode_uri, relative_uri
from isograft.data.readers import IMAGE_SUFFIXES, ReadError
from isograft.data.slides import Tile
from isograft.errors import IsograftError
from isograft.settings import IngestSettings
from isograft.urls import suffix_of


def unfold(
    settings: IngestSettings, images: Sequence[ImageFile], table: pl.DataFrame
) -> tuple[list[Address], pl.DataFrame, list[ReadError | None]]:
    """Where every image lies, its row of the table, and why it cannot be used where that is known already.

    A file that holds several images is repeated, with what it tells of each. What the user says of a file (label, group) counts more
    than what stands in it.
    """
    looking = console.Progress(len(images), "Reading headers", "files") if _many(images) else nullcontext()
    asked = []
    with looking as progress:
        for image in images:
            asked.append(parts_or_reason(image.path, settings))
            if progress is not None:
                progress.advance()
    held = [several for several, _ in asked]
    reasons = [reason for several, reason in asked for _ in several]
    places = [Address(image.path, one.part) for image, several in zip(images, held, strict=True) for one in several]
    table = table[np.repeat(np.arange(len(images)), [len(several) for several in held])]
    told = [{**_slide(image, one), **one.columns} for image, several in zip(images, held, strict=True) for one in several]
    for name in sorted({name for columns in told for name in columns}):
        found = pl.Series(name, [columns.get(name) for columns in told], pl.String)
        given = [pl.col(name).cast(pl.String)] if name in table.columns else []
        # Without a column of the user's the source is but the folder's name, which says less than the file itself.
        first = [found, *given] if name == "source" and settings.source_column is None else [*given, found]
        table = table.with_columns(pl.coalesce(first).alias(name))
    spans = [one.span for several in held for one in several]
    if any(spans):
        columns = zip(*(span or (None, None) for span in spans), strict=True)
        table = table.with_columns(pl.Series(*named) for named in zip(MEMBER, columns, MEMBER.values(), strict=True))
    if settings.window is not None and not any("window=" in place.part for place in places):
        raise IsograftError(f"--window {settings.window} is about grey DICOM images, but there are none; leave it out")
    return places, _unnamed(settings, places, [one.telling for several in held for one in several], table), reasons


def _slide(image: ImageFile, part: Part) -> dict[str, str | None]:
    """The slide that a tile belongs to, which is its group: its path inside the source, as slides of two patients may share a name."""
    if Tile.named(part.part) is None:
        return {}
    name = str(PurePosixPath(image.relative).with_suffix(""))
    return {"group": name, "slide": name}


def _unnamed(settings: IngestSettings, places: Sequence[Address], telling: Sequence[frozenset[str]], table: pl.DataFrame) -> pl.DataFrame:
    """Take labels and sources away that folders gave and that name a patient, and say how many paths do."""
    if not any(telling):
        return table
    folder = os.path.abspath(settings.out.parent)  # noqa: PTH100
    named = len(
        {
            place.file
            for place, names in zip(places, telling, strict=True)
            if names & set(Path(decode_uri(relative_uri(place, folder))).parts)
        }
    )
    if named:
        console.warn(
            f"the paths of {named:,} DICOM files hold an identifier of their patient or study, and manifest, predictions and reports hold"
            " these paths; rename the files and folders before you pass any of them on"
        )
    kept = {}
    for role in ("label", "source"):
        kept[role] = [None if value in names else value for value, names in zip(table[role], telling, strict=True)]
        if lost := table[role].len() - table[role].null_count() - sum(value is not None for value in kept[role]):
            console.warn(f"{lost:,} images have no {role}: the folder that would give it is named after their patient or study")
    return table.with_columns(pl.Series(role, values, pl.String) for role, values in kept.items())


def _many(images: Sequence[ImageFile]) -> bool:
    """Whether looking into the files takes long enough to show it: an ordinary image is not opened for that."""
    return sum(suffix_of(image.path) not in IMAGE_SUFFIXES for image in images) > 2000
