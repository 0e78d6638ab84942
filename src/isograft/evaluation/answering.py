"""A model's answers to labeled images, from the original files, none of which may have changed since it was ingested."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from isograft import console
from isograft.data.remote import io_threads
from isograft.errors import IsograftError
from isograft.inference import MAX_PIXELS, Answer, classify, read_ahead

if TYPE_CHECKING:
    from isograft.evaluation.labeled import LabeledData
    from isograft.model import Model
    from isograft.settings import EvaluateSettings


def answers_to(model: Model, data: LabeledData, settings: EvaluateSettings) -> list[Answer]:
    """The model's answer to every image, in row order.

    Raises:
        IsograftError: A file cannot be read any more, or holds other pixels than at ingest.
    """
    frame = data.manifest.frame
    known = {"width", "height"} <= {*frame.columns}
    largest = frame.select(pl.col("width").cast(pl.Int64) * pl.col("height")).max().item() if known else None
    threads = settings.threads or io_threads(data.places, os.cpu_count() or 1)
    pictures = read_ahead(data.places, model.preprocess, threads, max(MAX_PIXELS, largest or 0))
    said = classify(model.network(), model.preprocess, pictures, symmetries=model.symmetries(settings.tta))
    answers = []
    with console.Progress(len(data.places), "Evaluating") as progress:
        for place, (picture, answer) in zip(data.places, said, strict=True):
            if picture.status == "changed":
                raise IsograftError(
                    f"{place} has changed since it was ingested, so it may be an image the model has seen; "
                    "restore it, or ingest the data again"
                )
            if answer is None:
                raise IsograftError(f"{place} cannot be read any more: {picture.reason}; restore it, or ingest the data again")
            answers.append(answer)
            progress.advance()
    return answers


def leaked_rows(model: Model, data: LabeledData, allowed: bool) -> npt.NDArray[np.bool_]:
    """Which tested rows the model or an ancestor has seen: bool (N,).

    Raises:
        LeakageError: There are some, and that was not allowed.
    """
    from isograft.lineage import leaks, refuse

    found = leaks(model.seen(), data.manifest)
    if not allowed:
        refuse(found, len(data.manifest), str(model.folder))
    leaked = np.zeros(len(data.manifest), dtype=bool)
    leaked[found["row"].cast(pl.Int64).to_numpy()] = True
    if leaked.any():
        told = f"{leaked.sum():,} of {len(leaked):,} images of {data.name} were seen by {model.folder} or an ancestor of it"
        console.warn(f"{told}; every output is stamped as leaked")
    return leaked
