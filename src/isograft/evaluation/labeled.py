"""What `evaluate` scores: the model's own held-out test split, or labeled data that were given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from isograft import console
from isograft.data.address import Address
from isograft.data.manifest import Manifest
from isograft.data.places import RECORD_FILE, SPLIT_FILE, image_folders, short_name
from isograft.data.selection import holds
from isograft.errors import IsograftError
from isograft.settings import EvaluateSettings
from isograft.urls import is_web

if TYPE_CHECKING:
    from isograft.model import Model

_SHOWN = 5


@dataclass(frozen=True)
class LabeledData:
    """Labeled images to score.

    Attributes:
        manifest: Usable, labeled rows.
        places: Where they lie, in row order.
        name: What they are, for people; outputs carry it, so it tells no folder of the machine.
        own_split: Whether they are the model's own held-out test split.
        left_out: Sentences about rows that are not tested.
    """

    manifest: Manifest
    places: list[Address]
    name: str
    own_split: bool
    left_out: list[str]


def own_test_split(model: Model, where: str | None) -> LabeledData:
    """The test rows of the model's own split.parquet, with their images where run.json says they lie.

    Args:
        model: The model.
        where: Which of them; None means all.

    Raises:
        IsograftError: There are none, or the images are no longer there.
    """
    path = model.folder / SPLIT_FILE
    remedy = f"give labeled data: isograft evaluate {model.folder} DATA --out ..."
    if not path.is_file():
        raise IsograftError(f"{model.folder} has no test split ({SPLIT_FILE}); {remedy}")
    manifest = Manifest.read(path).select(pl.col("split") == "test")
    if not len(manifest):
        raise IsograftError(f"{model.folder} kept no image for the test when it was trained; {remedy}")
    if where:
        manifest = manifest.select(holds(manifest.frame, where, f"the test split of {model.folder}"))
        if not len(manifest):
            raise IsograftError(f'--where "{where}" holds for no image of the test split of {model.folder}; correct it, or leave it out')
    places = manifest.addresses()
    if signed := [str(place) for place in places if is_web(place.file) and place.file.endswith("?")]:
        raise IsograftError(f"{len(signed):,} of {len(places):,} test images lie behind URLs with a query string, such as {signed[0]}, "
                            f"which a model folder does not keep since it may be a signature; {remedy}")  # fmt: skip
    gone = [str(place) for place in places if not place.exists()]
    if gone and image_folders(path) == [model.folder]:
        raise IsograftError(f"{model.folder} does not say where its test images lie, as its {RECORD_FILE} is missing; {remedy}")
    if gone:
        raise IsograftError(
            f"{len(gone):,} of {len(places):,} test images are no longer where they were, such as {gone[0]}; put them back, or {remedy}"
        )
    return LabeledData(manifest, places, f"the held-out test split of {short_name(model.folder)}", True, [])


def given_data(data: str, settings: EvaluateSettings) -> LabeledData:
    """The labeled rows of DATA.

    Raises:
        IsograftError: DATA cannot be read, or has no labels.
    """
    from isograft.data.source import open_data

    everything = open_data(data, settings, need_labels=False)
    manifest = everything.select(pl.col("label").is_not_null())
    if not len(manifest):
        raise IsograftError(
            f"{data} has no labels; use one folder per class, or name the column with --label-column (and its CSV with --labels)"
        )
    left_out = []
    if unlabeled := len(everything) - len(manifest):
        left_out.append(f"{unlabeled:,} of {len(everything):,} readable images have no label and were not tested.")
        console.warn(left_out[-1])
    return LabeledData(manifest, manifest.addresses(), short_name(Path(data)), False, left_out)


def check_labels(data: LabeledData, classes: Sequence[str]) -> None:
    """Refuse labels that the model does not know, and data of one class only."""
    found = data.manifest.classes()
    unknown = [name for name in found if name not in classes]
    if unknown:
        raise IsograftError(
            f"{data.name} has the class {_listed(unknown)}, which the model does not know; it knows {_listed(classes)}: "
            "leave those images out with --where, or rename the labels"
        )
    if len(found) == 1:
        raise IsograftError(
            f"all {len(data.manifest):,} labeled images of {data.name} are of one class ('{found[0]}'), so nothing can be told apart; "
            "add images of another class, or use isograft predict"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
