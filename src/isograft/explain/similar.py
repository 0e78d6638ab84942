"""Similar cases: the labeled training images that a model takes to be most like the one it is asked about.

A model folder may carry `cases.safetensors` (`embeddings`, float32 (N, D): pooled features of its labeled training images) and
`cases.parquet` (columns id, uri, label; the same N rows). The pictures themselves stay where `split.parquet` and `run.json` say.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from isograft.data.address import Address
from isograft.data.manifest import Manifest
from isograft.data.places import SPLIT_FILE
from isograft.errors import IsograftError

if TYPE_CHECKING:
    from isograft.model import Model

EMBEDDINGS_FILE = "cases.safetensors"
CASES_FILE = "cases.parquet"


@dataclass(frozen=True)
class Case:
    """A labeled training image near the one asked about.

    Attributes:
        id: First 16 digits of its pixels' SHA-256.
        uri: As in split.parquet.
        label: Its class.
        distance: Cosine distance of the embeddings, 0 (same direction) to 2.
        place: Where the image lies, or None when it cannot be found from here.
    """

    id: str
    uri: str
    label: str
    distance: float
    place: Address | None


class Cases:
    """The cases of a model.

    Args:
        folder: The model folder.
        table: N rows: id, uri, label.
        embeddings: float32 (N, D).
    """

    def __init__(self, folder: Path, table: pl.DataFrame, embeddings: npt.NDArray[np.float32]) -> None:
        self._folder = folder
        self._table = table
        self._directions = _unit(embeddings)

    def __len__(self) -> int:
        return len(self._table)

    @classmethod
    def read(cls, folder: Path) -> Cases | None:
        """The cases of a model folder; None when it carries none (an older model, or one handed on without them).

        Raises:
            IsograftError: The files cannot be read or do not fit each other.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        paths = folder / EMBEDDINGS_FILE, folder / CASES_FILE
        if not all(path.is_file() for path in paths):
            return None
        try:
            embeddings = load_file(paths[0])["embeddings"]
            table = pl.read_parquet(paths[1]).select(pl.col("id", "uri", "label").cast(pl.String))
        except (SafetensorError, OSError, KeyError, pl.exceptions.PolarsError) as error:
            raise IsograftError(f"the cases of {folder} cannot be read ({error}); copy the folder again, or use --similar 0") from error
        if embeddings.ndim != 2 or len(embeddings) != len(table):
            raise IsograftError(
                f"{paths[0]} has embeddings of shape {embeddings.shape} but {CASES_FILE} has {len(table)} rows; "
                "copy the folder again, or use --similar 0"
            )
        return cls(folder, table, embeddings)

    def nearest(self, embedding: npt.NDArray[np.float32], k: int, without: str | None = None) -> list[Case]:
        """The cases nearest by cosine distance, the nearest first; equal ones in the order of the table.

        Args:
            embedding: float (D,), pooled features of the image asked about.
            k: How many.
            without: Id of the image asked about, which is no case of its own.

        Raises:
            IsograftError: The embedding has another length than those of the cases.
        """
        if embedding.shape != self._directions.shape[1:]:
            raise IsograftError(
                f"the cases of {self._folder} are embeddings of length {self._directions.shape[1]}, but the model's have length "
                f"{embedding.shape[0]}; copy the folder again, or use --similar 0"
            )
        distances = np.clip(1 - self._directions @ _unit(embedding[None])[0], 0, 2)
        order = np.argsort(distances, kind="stable")
        ids = self._table["id"].to_list()
        others = [int(row) for row in order if without is None or ids[int(row)] != without]
        return [self._case(row, float(distances[row])) for row in others[:k]]

    def _case(self, row: int, distance: float) -> Case:
        known = self._table.row(row, named=True)
        place = self._places.get((known["id"], known["uri"]))
        return Case(known["id"], known["uri"], known["label"], distance, place if place is not None and place.exists() else None)

    @cached_property
    def _places(self) -> dict[tuple[str, str], Address]:
        """Where the images of split.parquet lie, as far as the model folder knows."""
        path = self._folder / SPLIT_FILE
        if not path.is_file():
            return {}
        split = Manifest.read(path)
        keys = split.frame.select("id", "uri").rows()
        return {(str(key[0]), str(key[1])): place for key, place in zip(keys, split.addresses(), strict=True)}


def similar_cases(model: Model, embedding: npt.NDArray[np.float32], k: int, without: str | None = None) -> list[Case]:
    """The labeled training images nearest to an image, by cosine distance; none when the model carries no cases.

    For many images read `Cases` once.

    Args:
        model: The model.
        embedding: float (D,), pooled features of the image by the model's own backbone.
        k: How many.
        without: Id of the image asked about, which is no case of its own.

    Raises:
        IsograftError: The cases cannot be read or do not fit the model.
    """
    cases = Cases.read(model.folder)
    return [] if cases is None else cases.nearest(embedding, k, without)


def _unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Vectors (N, D) of length 1; a vector of zeros stays, and is at distance 1 from everything."""
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    directions: npt.NDArray[np.float64] = wide / np.where(lengths > 0, lengths, 1)
    return directions
