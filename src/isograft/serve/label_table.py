"""The table of images to label: what `isograft suggest` writes, or any table that `isograft predict` reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from isograft.data.address import Address
from isograft.data.manifest import absolute_uri, decode_uri, part_of_uri
from isograft.errors import IsograftError
from isograft.inputs import list_inputs
from isograft.settings import InputSettings
from isograft.urls import is_url

_TOLD = 3


@dataclass(frozen=True)
class LabelTable:
    """Images to label.

    Attributes:
        uris: What they are called.
        places: Where they lie.
        further: The other columns.
    """

    uris: Sequence[str]
    places: Sequence[Address]
    further: pl.DataFrame

    def column(self, name: str) -> list[str | None]:
        """One of the other columns as text; None where there is no value, or no such column."""
        if name not in self.further.columns:
            return [None] * len(self.uris)
        return [text or None for text in self.further[name].cast(pl.String)]


def read_label_table(path: Path) -> LabelTable:
    """Read the table and find its images.

    Raises:
        IsograftError: It cannot be read, or an image is not there, or stands in it twice.
    """
    if not path.is_file():
        raise IsograftError(f"--label {path} does not exist; write it with isograft suggest, or give a CSV that names images")
    found = (_by_uri(path) if path.suffix.lower() == ".csv" else None) or _as_predict(path)
    twice = [place for place, count in Counter(map(absolute_uri, found.places)).items() if count > 1]
    if twice:
        more = f" and {len(twice) - 1:,} other images" if len(twice) > 1 else ""
        raise IsograftError(f"--label {path}: {twice[0]}{more} stand in it more than once; keep one row of each image")
    return found


def _as_predict(path: Path) -> LabelTable:
    """The table as `predict` reads it."""
    inputs = list_inputs(InputSettings.model_validate({"model": path.parent, "input": str(path)}))
    lost = [f"{inputs.uris[row]} ({reason})" for row, (_, reason) in sorted(inputs.problems.items())]
    lost += [
        f"{uri} (there is no such file)"
        for uri, place in zip(inputs.uris, inputs.places, strict=True)
        if place is not None and not place.exists()
    ]
    if lost:
        more = f" and {len(lost) - _TOLD:,} more" if len(lost) > _TOLD else ""
        raise IsograftError(
            f"--label {path}: {len(lost):,} of {len(inputs.uris):,} images are not there: {', '.join(lost[:_TOLD])}{more}; "
            "correct the table, or put the images where it says"
        )
    return LabelTable(inputs.uris, [place for place in inputs.places if place is not None], inputs.further)


def _by_uri(path: Path) -> LabelTable | None:
    """The table, where its column `uri` names every image exactly, down to the frame or tile of a file; None where it does not."""
    try:
        frame = pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError):
        return None  # the reader of all tables says what is wrong
    if "uri" not in frame.columns or not len(frame) or frame["uri"].null_count():
        return None
    places = [
        Address(decode_uri(uri) if is_url(uri) else str(path.parent / decode_uri(uri)), part_of_uri(uri) if "#" in uri else "")
        for uri in frame["uri"]
    ]
    if not all(place.exists() and (place.remote or Path(place.file).is_file()) for place in places):
        return None
    return LabelTable(frame["uri"].to_list(), places, frame.drop("uri"))
