"""The labeled images a classifier was trained on, as it sees them: what new images are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from isograft.data.places import CASE_EMBEDDINGS_FILE, CASES_FILE
from isograft.errors import IsograftError
from isograft.unpickling import nothing_unpickled


@dataclass(frozen=True)
class Cases:
    """Labeled images and their embeddings.

    Attributes:
        table: C rows with `id`, `uri` (as in split.parquet), `label`, and for an ensemble the `fold` in which each was held out.
        embeddings: float32 (C, M, D), the pooled features that each of M networks gives each image.
    """

    table: pl.DataFrame
    embeddings: npt.NDArray[np.float32]

    @classmethod
    @nothing_unpickled("the model folder")
    def load(cls, folder: Path) -> Cases | None:
        """Read the cases of a model folder; None where it has none, as an earlier version wrote it or they were left out.

        Raises:
            IsograftError: The files cannot be read or do not fit each other.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        paths = folder / CASES_FILE, folder / CASE_EMBEDDINGS_FILE
        if not all(path.is_file() for path in paths):
            return None
        try:
            table, embeddings = pl.read_parquet(paths[0]), load_file(paths[1])["embeddings"]
        except (SafetensorError, OSError, KeyError, pl.exceptions.PolarsError) as error:
            raise IsograftError(f"the labeled cases of {folder} cannot be read ({error}); copy the model folder again") from error
        if embeddings.ndim != 3 or len(embeddings) != len(table):
            raise IsograftError(
                f"{paths[1]} has embeddings of shape {embeddings.shape} but {CASES_FILE} has {len(table)} rows; copy the model folder again"
            )
        return cls(table, embeddings)

    def trained(self, member: int) -> npt.NDArray[np.bool_]:
        """Which of the images a network was trained on: bool (C,)."""
        if "fold" not in self.table.columns:
            return np.ones(len(self.table), dtype=bool)
        mask: npt.NDArray[np.bool_] = (self.table["fold"] != member).to_numpy()
        return mask
