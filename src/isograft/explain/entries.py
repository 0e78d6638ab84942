"""What the page shows of each image, gathered while the images go by: pictures, answers, similar cases, feature maps."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl
from torch import nn

from isograft.data.containers import read_unchanged
from isograft.data.readers import ReadError, to_rgb8
from isograft.errors import Unreachable
from isograft.explain.features import feature_maps, feature_sheet, filters_sheet, require_features
from isograft.explain.folder import Written
from isograft.explain.pictures import Image, Shown, ends, where
from isograft.explain.similar import Case, SimilarCases
from isograft.inference import MAX_PIXELS, Row
from isograft.inference import Picture as Read
from isograft.report.figures import Picture, coded_picture, thumbnail
from isograft.thumbnails import Thumbnails

if TYPE_CHECKING:
    from isograft.model import Model

MOST_SHOWN = 24
_CASE_SIDE = 110
_NO_CASES = (
    "Similar training images are not shown: the model folder carries no cases (it was made by an older version, or handed on without them)."
)
_CASE_COLUMNS = ("id", "uri", "rank", "case_id", "case_uri", "label", "distance")


@dataclass(frozen=True)
class Entry:
    """One image on the page.

    Attributes:
        name: What to call it.
        predicted: The most probable class, and `p_predicted` its probability.
        target: The class that is explained, and `p_target` its probability.
        image: The image.
        overlay: The map over it.
        ends: What stands at the ends of the legend.
        place: Where the largest value is, in words; empty when nothing speaks for the class.
        note: What weakens the map, or the answer.
        files: Names of the picture and the array.
        cases: Similar cases with their picture, None where it cannot be found.
    """

    name: str
    predicted: str
    p_predicted: float
    target: str
    p_target: float
    image: Picture
    overlay: Picture
    ends: tuple[str, str]
    place: str
    note: str
    files: tuple[str, str]
    cases: list[tuple[Case, Picture | None]] = field(default_factory=list)


class Gallery:
    """Gathers the first `MOST_SHOWN` images for the page, and the similar cases of all.

    Args:
        model: The model.
        network: Its network.
        similar: Similar cases per image; 0 for none.
        features: Whether filters and feature maps are wanted.

    Attributes:
        entries: What the page shows.
        cases: The model's cases, or None.
        missing: Why there are no similar cases; empty when there are, or none are wanted.

    Raises:
        IsograftError: The cases cannot be read, or the network has no features to show.
    """

    def __init__(self, model: Model, network: nn.Module, similar: int, features: bool) -> None:
        self.entries: list[Entry] = []
        self.missing = ""
        self._classes = list(model.classes or ())
        self._network, self._preprocess, self._similar = network, model.preprocess, similar
        if features:
            require_features(network)
        self._features = features
        self.cases, self._thumbnails = None, None
        if similar:
            self._thumbnails = Thumbnails.load(model.folder)
            self.cases = SimilarCases.of(model)
            if self.cases is None:
                self.missing = _NO_CASES
        self._rows: list[tuple[str, str, int, str, str, str, float]] = []
        self._first: tuple[str, Image] | None = None

    def add(self, uri: str, picture: Read, embeddings: npt.NDArray[np.float32], row: Row, written: Written) -> None:
        """Take in one image that was explained; one without pixels is left out."""
        if picture.pixels is None or written.shown is None:
            return
        cases: list[Case] = []
        if self.cases is not None:
            name = (picture.pixel_hash or "")[:16]
            cases = self.cases.nearest(embeddings, self._similar, name)
            self._rows += [(name, uri, rank + 1, case.id, case.uri, case.label, case.distance) for rank, case in enumerate(cases)]
        if self._first is None:
            self._first = (uri, picture.pixels)
        if len(self.entries) < MOST_SHOWN:
            self.entries.append(self._entry(uri, picture, row, written, written.shown, cases))

    def cases_table(self) -> pl.DataFrame:
        """The similar cases of all images: the image's id and uri, rank from 1, the case's id, uri and label, and the cosine distance."""
        kinds = (pl.String, pl.String, pl.Int64, pl.String, pl.String, pl.String, pl.Float64)
        return pl.DataFrame(self._rows, schema=dict(zip(_CASE_COLUMNS, kinds, strict=True)), orient="row")

    def write_features(self, folder: Path) -> list[Picture]:
        """Write filters.png and, of the first image, feature_maps.png; nothing when they are not wanted."""
        import base64

        if not self._features:
            return []
        made = {"filters.png": (filters_sheet(self._network), "The filters of the first layer, as colours.")}
        if self._first is not None:
            name, pixels = self._first
            maps = feature_maps(self._network, self._preprocess, pixels)
            made["feature_maps.png"] = (feature_sheet(maps), f"Feature maps of {name}, a row per stage: {', '.join(maps)}.")
        for file, (content, _) in made.items():
            (folder / file).write_bytes(content)
        return [Picture("data:image/png;base64," + base64.b64encode(content).decode(), alt, alt) for content, alt in made.values()]

    def _entry(self, uri: str, picture: Read, row: Row, written: Written, shown: Shown, cases: list[Case]) -> Entry:
        heatmap = written.heatmap
        answer, target = int(row.argmax()), self._classes[heatmap.target]
        place = where(heatmap)
        told = f"speaks most for {target} {place}" if place else f"shows nothing that speaks for {target}"
        return Entry(
            name=uri,
            predicted=self._classes[answer],
            p_predicted=float(row[answer]),
            target=target,
            p_target=float(row[heatmap.target]),
            image=thumbnail(shown.image, f"Image {uri}.", max(shown.image.shape)),
            overlay=thumbnail(shown.overlay, f"Heatmap of {uri}: it {told}.", max(shown.overlay.shape)),
            ends=ends(shown, heatmap.about.signed),
            place=place,
            note="; ".join(filter(None, (picture.reason if picture.unfit else None, heatmap.note))),
            files=(written.picture, written.array),
            cases=[(case, _case_picture(case, self._thumbnails)) for case in cases],
        )


def _case_picture(case: Case, thumbnails: Thumbnails | None) -> Picture | None:
    """The case from its file if that still holds it, else as the model folder keeps it, else None."""
    alt = f"Training image labeled {case.label}."
    if case.place is not None:
        with suppress(ReadError, Unreachable):
            return thumbnail(to_rgb8(read_unchanged(case.place, MAX_PIXELS)[0].array), alt, _CASE_SIDE)
    kept = None if thumbnails is None else thumbnails.get(case.id, case.uri)
    return None if kept is None else coded_picture(kept, alt)
