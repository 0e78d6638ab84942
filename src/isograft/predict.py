"""`isograft predict`: classify images, one row per input, whatever its state."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from isograft import console
from isograft.data.remote import io_threads
from isograft.errors import IsograftError
from isograft.inference import Answer, Picture, classify, read_ahead
from isograft.inputs import Inputs, list_inputs
from isograft.predictions import check_pooling, further_columns, judged, pooled, table_bytes
from isograft.run import require_free, write_atomic
from isograft.settings import PredictSettings

if TYPE_CHECKING:
    from torch import nn

    from isograft.explain.folder import HeatmapFolder
    from isograft.judgement import Judgement
    from isograft.model import Model

_ROWS_PER_PART = 4096


def predict(settings: PredictSettings) -> pl.DataFrame:
    """Classify images and write one row per input.

    A file that cannot be read gets a row with its `status` and `reason` and no answer; the run goes on.
    The numbers of an image are those `evaluate` gives it, to the bit.

    Returns:
        The table written: `id` (first 16 digits of the pixels' SHA-256), `uri`, `status`, `reason`, `predicted`,
        one calibrated `p_<class>` float64 per class, how far the answer can be relied on (see `isograft.predictions.judged`), then the
        further columns of an input table. With `--pool-by` one row per value of that column:
        see `isograft.predictions.pooled`.

    Raises:
        IsograftError: The model is no classifier, the input names no image, or the output exists already or cannot be written.
    """
    if settings.out.exists():
        raise IsograftError(f"--out {settings.out} already exists; delete it or choose another name")
    if settings.heatmaps is not None:
        require_free(settings.heatmaps, "--heatmaps")
    inputs = list_inputs(settings)
    if settings.pool_by is not None:
        check_pooling(inputs.further, settings.pool_by)
    from isograft.model import Model

    model = Model.load(settings.model)
    classes = model.classes
    if not classes:
        raise IsograftError(f"{settings.model} is a pretrained backbone without classes; train a classifier from it with isograft finetune")
    if settings.pool_by in {point.name for point in model.judgement().points if point.by_hand}:
        raise IsograftError(
            f"--pool-by {settings.pool_by}: the answer has a column of that name itself, a threshold of the model; rename yours"
        )
    _warn_of_unknown(model.judgement())
    parts = list(_parts(model, list(classes), inputs, settings))
    table = pl.concat(parts)
    table = pl.concat([table, further_columns(inputs.further, (), table.columns)], how="horizontal")
    answered = table if settings.pool_by is None else pooled(table, settings.pool_by, classes, settings.top_k)
    write_atomic(settings.out, table_bytes(answered, settings.out))
    bad = table.filter(pl.col("status") != "ok")
    if len(bad):
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(bad["status"].value_counts().rows()))
        console.warn(f"{len(bad):,} of {len(table):,} inputs have no answer ({kinds}); the columns status and reason say why")
    together = "" if settings.pool_by is None else f", {len(answered):,} answers by {settings.pool_by}"
    console.say(f"{len(table) - len(bad):,} images classified{together}; written to {settings.out}")
    return answered


def _parts(model: Model, classes: list[str], inputs: Inputs, settings: PredictSettings) -> Iterator[pl.DataFrame]:
    """Classify row by row; only finished rows are held, packed into columns every few thousand."""
    found = [place for place in inputs.places if place is not None]
    threads = settings.threads or io_threads(found, os.cpu_count() or 1)
    pictures, network = read_ahead(found, model.preprocess, threads), model.network()
    answered = classify(network, model.preprocess, pictures, symmetries=model.symmetries(settings.tta))
    judgement = model.judgement()
    heatmaps = None if settings.heatmaps is None else _heatmap_folder(model, network, settings.heatmaps, len(inputs.uris))
    rows: list[tuple[str, Picture, Answer | None]] = []
    with console.Progress(len(inputs.uris), "Predicting") as progress:
        for number, (uri, place) in enumerate(zip(inputs.uris, inputs.places, strict=True)):
            if place is None:
                rows.append((uri, Picture(None, *inputs.problems[number]), None))
            else:
                picture, answer = next(answered)
                if heatmaps is not None and picture.pixels is not None and answer is not None:
                    heatmaps.add(number, uri, place, picture.pixels, judgement.probabilities([answer])[0])
                rows.append((uri, Picture(None, picture.status, picture.reason, picture.pixel_hash), answer))
            progress.advance()
            if len(rows) == _ROWS_PER_PART:
                yield _table(rows, classes, judgement)
                rows = []
    if rows:
        yield _table(rows, classes, judgement)


def _warn_of_unknown(judgement: Judgement) -> None:
    """Say what the model cannot tell of its answers."""
    if judgement.missing:
        console.warn(f"the probabilities are not calibrated, and nothing says when not to answer: {judgement.missing}")
    elif not judgement.domains:
        console.warn(
            "the model was handed on without its labeled cases, so no image can be found out of domain, and abstain does not count it"
        )


def _heatmap_folder(model: Model, network: nn.Module, folder: Path, inputs: int) -> HeatmapFolder:
    from isograft.explain.explainer import Explainer
    from isograft.explain.folder import HeatmapFolder

    explainer = Explainer(network, model.preprocess)
    console.say(f"heatmaps: {explainer.method} ({explainer.reason})")
    return HeatmapFolder(folder, explainer, list(model.classes or ()), inputs)


def _table(rows: list[tuple[str, Picture, Answer | None]], classes: list[str], judgement: Judgement) -> pl.DataFrame:
    ids = [picture.pixel_hash[:16] if picture.pixel_hash else None for _, picture, _ in rows]
    columns = {
        "id": ids,
        "uri": [uri for uri, _, _ in rows],
        "status": [picture.status for _, picture, _ in rows],
        "reason": [picture.reason for _, picture, _ in rows],
    }
    described = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))
    return pl.concat([described, judged([answer for _, _, answer in rows], ids, judgement, classes)], how="horizontal")
