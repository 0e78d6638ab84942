"""Real images on which an export has to give the answers of the model it was made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from isograft import console
from isograft.data.containers import read_unchanged
from isograft.data.manifest import Manifest
from isograft.data.places import SPLIT_FILE, short_name
from isograft.data.readers import ReadError, to_rgb8
from isograft.errors import IsograftError, Unreachable
from isograft.inference import MAX_PIXELS, answers
from isograft.settings import DataSettings

if TYPE_CHECKING:
    from torch import nn

    from isograft.model import Model

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

MOST = 300
"""Images compared, and images that int8 ranges are found on."""


@dataclass(frozen=True)
class Trial:
    """Images to compare answers on.

    Attributes:
        images: N decoded images, uint8 (H, W, 3) RGB, as `predict` reads them before any scaling.
        labels: Their classes, None where unknown.
        name: What they are, for people.
    """

    images: list[Image]
    labels: list[str | None]
    name: str

    def __len__(self) -> int:
        return len(self.images)

    def squares(self, model: Model) -> list[Image]:
        """What the network sees of each: uint8 (S, S, 3)."""
        return [model.preprocess.square(image) for image in self.images]


@dataclass(frozen=True)
class Reference:
    """The model's own answers.

    Attributes:
        probabilities: float64 (N, K), those of `predict`; None of a backbone.
        embeddings: float32 (N, M, D).
    """

    probabilities: Floats | None
    embeddings: npt.NDArray[np.float32]


def find_trial(model: Model, images: str | None) -> Trial:
    """The images to compare on: those given, or else the model's test split, or else what it was trained on.

    Raises:
        IsograftError: There are none, or none can be read.
    """
    if images is not None:
        from isograft.data.source import open_data

        return _decoded(open_data(images, DataSettings.model_validate({}), need_labels=False), images)
    for split in ("test", "train"):
        found = _own(model, split)
        if found is not None:
            return found
    raise IsograftError(
        f"none of the images {model.folder} was trained or tested with is where it was, so nothing shows that the export answers alike; "
        "name some images with --images"
    )


def find_ranges(model: Model, trial: Trial) -> tuple[Trial, Trial]:
    """Images on which the ranges of int8 numbers are found, and those left to compare on: training images, or else half of the trial."""
    own = _own(model, "train")
    if own is not None and own.name != trial.name:
        return own, trial
    if len(trial) < 2:
        raise IsograftError(f"int8 needs at least 2 images, one to find ranges on and one to compare, but {trial.name} has {len(trial)}")
    halves = [Trial(trial.images[part::2], trial.labels[part::2], f"half of {trial.name}") for part in (0, 1)]
    return halves[0], halves[1]


def refer(model: Model, network: nn.Module, trial: Trial) -> Reference:
    """Ask the model itself, in the way of `predict` with torch."""
    said = list(answers(network, model.preprocess, trial.squares(model)))
    if model.classes is None:
        return Reference(None, np.stack([one.logits for one in said]))
    return Reference(model.judgement().probabilities(said), np.stack([one.embeddings for one in said]))


def _own(model: Model, split: str) -> Trial | None:
    """Images of a split of the model's own, None where there are none or they are gone."""
    path = model.folder / SPLIT_FILE
    if not path.is_file():
        return None
    manifest = Manifest.read(path).select(pl.col("split") == split)
    there = np.array([place.exists() for place in manifest.addresses()], dtype=bool)
    if not there.any():
        return None
    named = "test split" if split == "test" else "training images"
    return _decoded(manifest.select(pl.Series(there)), f"the {named} of {short_name(model.folder)}")


def _decoded(manifest: Manifest, name: str) -> Trial:
    """At most `MOST` usable images, spread evenly in the order of their ids, which is that of nothing else."""
    order = np.argsort(manifest.frame["id"].to_numpy(), kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(MOST, len(order))).astype(int)] if len(order) else order
    places, labels = manifest.addresses(), manifest.frame["label"].to_list()
    images: list[Image] = []
    known: list[str | None] = []
    for row in chosen.tolist():
        try:
            images.append(to_rgb8(read_unchanged(places[row], MAX_PIXELS)[0].array))
            known.append(labels[row])
        except (ReadError, Unreachable) as error:
            console.warn(f"{places[row]} is left out of the comparison: {error.reason}")
    if not images:
        raise IsograftError(f"{name} has no image that can be read, so nothing can be compared; name others with --images")
    return Trial(images, known, name)
