"""The table that `evaluate` and `predict` write: which class, how probable, and what the input table said besides."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from isograft import console
from isograft.errors import IsograftError

if TYPE_CHECKING:
    from isograft.inference import Answer
    from isograft.judgement import Judgement


UNSURE = ("prediction_set", "abstain", "out_of_domain", "domain_distance")
"""Columns that say how far an answer can be relied on; null where the model cannot tell."""


def judged(
    answers: Sequence[Answer | None],
    ids: Sequence[str | None],
    judgement: Judgement,
    classes: Sequence[str],
    unfit: Sequence[bool] | None = None,
) -> pl.DataFrame:
    """Turn a model's answers into columns.

    Args:
        answers: One per image, None for an image that has none.
        ids: The images' ids.
        judgement: How the answers are to be taken.
        classes: K class names.
        unfit: Of which images too little is left to judge: the model abstains there, calibrated or not.

    Returns:
        The columns of `probability_columns`, calibrated; `prediction_set` (the classes that cannot be ruled out, joined by `|`), `abstain`
        (that is not one class, or the image is out of domain), `out_of_domain`, `domain_distance` (1 is the threshold); then a column true
        or false for every operating point that was named by hand.
    """
    there = [row for row, answer in enumerate(answers) if answer is not None]
    known = [answer for answer in answers if answer is not None]
    p = judgement.probabilities(known) if known else np.zeros((0, len(classes)))
    rows: list[npt.NDArray[np.float64] | None] = [None] * len(answers)
    for place, row in zip(there, p, strict=True):
        rows[place] = row
    verdicts = judgement.verdicts(known, [ids[row] or "" for row in there])
    spread = {name: pl.Series(name, _spread(values, there, len(answers)), dtype=kind) for name, (kind, values) in verdicts.items()}
    if unfit is not None:
        abstains = [True if odd else said for odd, said in zip(unfit, spread["abstain"], strict=True)]
        spread["abstain"] = pl.Series("abstain", abstains, pl.Boolean)
    return pl.concat([probability_columns(rows, classes), pl.DataFrame(spread)], how="horizontal")


def _spread(values: Sequence[Any] | None, places: Sequence[int], length: int) -> list[Any]:
    """Values at their places among `length`, None elsewhere, or everywhere where there are none."""
    spread: list[Any] = [None] * length
    for place, value in zip(places, values if values is not None else [None] * len(places), strict=True):
        spread[place] = value
    return spread


def probability_columns(rows: Sequence[npt.NDArray[np.float64] | None], classes: Sequence[str]) -> pl.DataFrame:
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
    if column in UNSURE or column in {"images", "unanswered", "predicted", "status", "reason", "id", "uri"} or column.startswith("p_"):
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
    return pl.concat([means.select(column, "images", "unanswered"), probability_columns(rows, classes)], how="horizontal")


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


def harmless(table: pl.LazyFrame) -> pl.LazyFrame:
    """A table for CSV in which no spreadsheet takes a file's name for a formula: it gets `./` before it, which names the same file."""
    names = [name for name, kind in table.collect_schema().items() if name in ("uri", "file") and kind == pl.String]
    formula = r"^[=+\-@\t\r]"
    return table.with_columns(
        pl.when(pl.col(name).str.contains(formula)).then(pl.lit("./") + pl.col(name)).otherwise(pl.col(name)).alias(name) for name in names
    )


def table_bytes(frame: pl.DataFrame, path: Path) -> bytes:
    """The table as the bytes of a CSV or Parquet file, by the suffix of `path`; CSV numbers read back to the same bits; see `harmless`."""
    buffer = io.BytesIO()
    if path.suffix.lower() == ".csv":
        harmless(frame.lazy()).collect().write_csv(buffer)
    else:
        frame.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()
