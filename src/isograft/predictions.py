"""The table that `evaluate` and `predict` write: which class, how probable, and what the input table said besides."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from isograft import console
from isograft.errors import IsograftError


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


def check_pooling(further: pl.DataFrame, column: str) -> None:
    """Refuse a column that cannot tell which images belong together, before anything is classified.

    Args:
        further: The columns of the inputs.
        column: The one whose equal values belong together.

    Raises:
        IsograftError: There is no such column, it is empty for an input, or its name is one of the answer's own.
    """
    if column not in further.columns:
        there = f"they have {', '.join(further.columns)}" if further.width else "they have no further column"
        raise IsograftError(f"--pool-by {column}: the inputs have no such column; {there}")
    if column in {"images", "unanswered", "predicted", "status", "reason", "id", "uri"} or column.startswith("p_"):
        raise IsograftError(f"--pool-by {column}: the answer has a column of that name itself; rename yours")
    if empty := further[column].null_count():
        raise IsograftError(f"--pool-by {column}: {empty:,} of {len(further):,} inputs have no value there; fill it in, or use --where")


def pooled(table: pl.DataFrame, column: str, classes: Sequence[str], top_k: int | None = None) -> pl.DataFrame:
    """One answer for all images that share a value of a column: the tiles of a slide, the frames of a series, the images of a patient.

    Args:
        table: What `predict` would write: a row per image.
        column: The column whose equal values belong together.
        classes: K class names.
        top_k: Average, class by class, only the so many images with the highest probability of it, and scale the averages to a sum of 1;
            None averages all. A few tiles with a tumour are not outvoted by many without.

    Returns:
        A row per value, in order of first appearance: the column, `images` answered, `unanswered`, `predicted`, and `p_<class>`.
    """
    names = [f"p_{name}" for name in classes]
    chosen = [pl.col(name).mean() if top_k is None else pl.col(name).drop_nulls().top_k(top_k).mean() for name in names]
    counts = [pl.col(names[0]).count().alias("images"), pl.col(names[0]).null_count().alias("unanswered")]
    means = table.group_by(column, maintain_order=True).agg(*counts, *chosen)
    rows = [None if row[0] is None else np.array(row) / sum(row) for row in means.select(names).rows()]
    return pl.concat([means.select(column, "images", "unanswered"), answers(rows, classes)], how="horizontal")


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
