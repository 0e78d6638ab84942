"""Similar cases: the labeled training images that a model takes to be most like the one it is asked about.

The pictures themselves stay where `split.parquet` and `run.json` say.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from isograft.assess.domain import directions
from isograft.cases import Cases
from isograft.data.address import Address
from isograft.data.manifest import Manifest
from isograft.data.places import SPLIT_FILE
from isograft.errors import IsograftError

if TYPE_CHECKING:
    from isograft.model import Model


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


class SimilarCases:
    """The cases of a model, by nearness. Images are compared by the mean cosine of the embeddings that each of its networks gives them.

    Args:
        folder: The model folder.
        cases: Its cases.
    """

    def __init__(self, folder: Path, cases: Cases) -> None:
        self._folder = folder
        self._table = cases.table
        self._ids = cases.table["id"].to_numpy()
        self._directions = directions(cases.embeddings)

    def __len__(self) -> int:
        return len(self._table)

    @classmethod
    def of(cls, model: Model) -> SimilarCases | None:
        """The cases of a model; None when it carries none (an older model, or one handed on without them).

        Raises:
            IsograftError: The files cannot be read or do not fit each other.
        """
        cases = model.cases()
        return None if cases is None else cls(model.folder, cases)

    def nearest(self, embeddings: npt.NDArray[np.float32], k: int, without: str | None = None) -> list[Case]:
        """The cases nearest by cosine distance, the nearest first; equal ones in the order of the table.

        Args:
            embeddings: float32 (M, D), pooled features of the image asked about by each of M networks.
            k: How many.
            without: Id of the image asked about, which is no case of its own.

        Raises:
            IsograftError: The embeddings have another shape than those of the cases.
        """
        if embeddings.shape != self._directions.shape[1:]:
            raise IsograftError(
                f"the cases of {self._folder} have embeddings of shape {self._directions.shape[1:]}, but the model's have shape "
                f"{embeddings.shape}; copy the folder again, or use --similar 0"
            )
        cosines = np.einsum("cmd,md->c", self._directions, directions(embeddings)) / len(embeddings)
        distances = np.clip(1 - cosines, 0, 2)
        order = np.argsort(distances, kind="stable")
        others = order if without is None else order[self._ids[order] != without]
        return [self._case(int(row), float(distances[row])) for row in others[:k]]

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
