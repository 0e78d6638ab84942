"""The table that `evaluate` and `predict` write: which class, how probable, and what the input table said besides."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from isograft import console


def answers(rows: Sequence[npt.NDArray[np.float64] | None], classes: Sequence[str]) -> pl.DataFrame:
    """Turn probabilities into columns.

    Args:
        rows: float64 (K,) per image, None for an image that has none.
        classes: K class names.

    Returns:
        Columns `predicted` (the most probable class, the first of equals) and one `p_<class>` float64 per class; null where None.
    """
    predicted = [None if row is None else classes[int(row.argmax())] for row in rows]
    columns = {
        f"p_{name}": pl.Series([None if row is None else float(row[k]) for row in rows], dtype=pl.Float64) for k, name in enumerate(classes)
    }
    return pl.DataFrame({"predicted": pl.Series(predicted, dtype=pl.String), **columns})


def further_columns(frame: pl.DataFrame, ours: Iterable[str], taken: Iterable[str]) -> pl.DataFrame:
    """Keep an input table's other columns beside ours.

    Args:
        frame: The input table.
        ours: Its columns that are not to be repeated.
        taken: Names our own columns use; a column of the input with such a name becomes `input_<name>`.
    """
    skipped, used = set(ours), set(taken)
    nested = [name for name in frame.columns if name not in skipped and frame.schema[name].is_nested()]
    if nested:
        console.warn(f"columns with lists are left out of the predictions: {', '.join(nested)}")
    kept = frame.select([name for name in frame.columns if name not in skipped and name not in nested])
    renamed = {}
    for name in kept.columns:
        fresh = name
        while fresh in used:
            fresh = f"input_{fresh}"
        used.add(fresh)
        renamed[name] = fresh
    return kept.rename(renamed)


def table_bytes(frame: pl.DataFrame, path: Path) -> bytes:
    """The table as the bytes of a CSV or Parquet file, by the suffix of `path`; CSV numbers read back to the same bits."""
    buffer = io.BytesIO()
    if path.suffix.lower() == ".csv":
        frame.write_csv(buffer)
    else:
        frame.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()
