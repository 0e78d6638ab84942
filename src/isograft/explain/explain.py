"""`isograft explain`: a heatmap per image, the training images most alike, and one page that says what they mean."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from isograft import console
from isograft.data.remote import io_threads
from isograft.errors import IsograftError
from isograft.inference import Answer, Picture, classify, read_ahead
from isograft.inputs import Inputs, list_inputs
from isograft.passport import require_classifier
from isograft.predictions import further_columns, judged, table_bytes
from isograft.run import require_free, whole_folder
from isograft.settings import ExplainSettings
from isograft.spelling import near

if TYPE_CHECKING:
    from torch import nn

    from isograft.explain.entries import Gallery
    from isograft.explain.explainer import Explainer
    from isograft.explain.folder import Written
    from isograft.judgement import Judgement
    from isograft.model import Model

TABLE_FILE = "explain.csv"
PAGE_FILE = "explain.html"
SIMILAR_FILE = "similar.csv"


class _Row(NamedTuple):
    """One input as far as the table tells of it."""

    uri: str
    picture: Picture
    answer: Answer | None
    written: Written | None


def explain(settings: ExplainSettings) -> pl.DataFrame:
    """Explain what a classifier says of images, and write one folder.

    The answers are those of `predict`, to the bit. A file that cannot be read gets a row with its `status` and `reason`; the run goes on.

    Returns:
        The table written as explain.csv: `id`, `uri`, `status`, `reason`, `predicted`, the columns of `predict`, `target`,
        `picture` and `array` (file names in the folder), then the further columns of an input table.

    Raises:
        IsograftError: The model is no classifier or has no such class, the method does not fit it, the input names no image, or the
            output folder exists already.
    """
    require_free(settings.out)
    _check_model(settings)
    inputs = list_inputs(settings)
    from isograft.explain.entries import Gallery
    from isograft.explain.explainer import Explainer
    from isograft.explain.page import explanation_page
    from isograft.model import Model

    model = Model.load(settings.model)
    classes = list(model.classes or ())
    network = model.network()
    gallery = Gallery(model, network, settings.similar, settings.features)
    explainer = Explainer(network, model.preprocess, settings.method)
    console.say(f"method: {explainer.method} ({explainer.reason})")
    with whole_folder(settings.out) as folder:
        target = None if settings.target is None else classes.index(settings.target)
        rows = list(_rows(model, network, explainer, inputs, settings.threads, folder, gallery, target))
        table = _table(rows, classes, inputs, model.judgement())
        (folder / TABLE_FILE).write_bytes(table_bytes(table, folder / TABLE_FILE))
        if gallery.cases is not None:
            (folder / SIMILAR_FILE).write_bytes(table_bytes(gallery.cases_table(), folder / SIMILAR_FILE))
        features = gallery.write_features(folder)
        bad = table.filter(pl.col("status") != "ok").select("uri", "status", "reason").rows()
        page = explanation_page(model, explainer, gallery, settings.target, (len(table), bad), features)
        (folder / PAGE_FILE).write_text(page, encoding="utf-8")
    _tell(table, settings.out)
    return table


def _check_model(settings: ExplainSettings) -> None:
    """Refuse, before anything heavy is loaded, a model that is no classifier and a class that it does not know.

    Raises:
        IsograftError: It is so.
    """
    classes = require_classifier(settings.model)
    if settings.target is not None and settings.target not in classes:
        known = near(settings.target, classes) or f"; it knows {', '.join(classes)}"
        raise IsograftError(f"--target {settings.target} is no class of {settings.model}{known}")


def _rows(
    model: Model,
    network: nn.Module,
    explainer: Explainer,
    inputs: Inputs,
    threads: int | None,
    folder: Path,
    gallery: Gallery,
    target: int | None,
) -> Iterator[_Row]:
    """Read, classify and explain row by row."""
    from isograft.explain.folder import HeatmapFolder

    found = [place for place in inputs.places if place is not None]
    threads = threads or io_threads(found, os.cpu_count() or 1)
    answering = copy.deepcopy(network)  # computes ahead while the explainer hooks into the layers of its own
    pictures = classify(answering, model.preprocess, read_ahead(found, model.preprocess, threads, ahead=16))
    files = HeatmapFolder(folder, explainer, list(model.classes or ()), len(inputs.uris))
    judgement = model.judgement()
    with console.Progress(len(inputs.uris), "Explaining") as progress:
        for number, (uri, place) in enumerate(zip(inputs.uris, inputs.places, strict=True)):
            picture, answer = (Picture(None, *inputs.problems[number]), None) if place is None else next(pictures)
            written = None
            if place is not None and picture.pixels is not None and answer is not None:
                row = judgement.probabilities([answer])[0]
                written = files.add(number, uri, place.holding(picture.pixel_hash), picture.pixels, row, target)
                gallery.add(uri, picture, answer.embeddings, row, written)
            yield _Row(uri, picture.told, answer, written and written.without_pictures())
            progress.advance()


def _table(rows: list[_Row], classes: list[str], inputs: Inputs, judgement: Judgement) -> pl.DataFrame:
    notes = [[row.picture.reason, row.written.heatmap.note if row.written else None] for row in rows]
    ids = [row.picture.pixel_hash[:16] if row.picture.pixel_hash else None for row in rows]
    columns = {
        "id": ids,
        "uri": [row.uri for row in rows],
        "status": [row.picture.status for row in rows],
        "reason": ["; ".join(note for note in both if note) or None for both in notes],
    }
    files = {
        "target": [classes[row.written.heatmap.target] if row.written else None for row in rows],
        "picture": [row.written.picture if row.written else None for row in rows],
        "array": [row.written.array if row.written else None for row in rows],
    }
    frames = [
        pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String)),
        judged([row.answer for row in rows], ids, judgement, classes, [row.picture.unfit for row in rows]),
        pl.DataFrame(files, schema=dict.fromkeys(files, pl.String)),
    ]
    table = pl.concat(frames, how="horizontal")
    return pl.concat([table, further_columns(inputs.further, (), table.columns)], how="horizontal")


def _tell(table: pl.DataFrame, out: Path) -> None:
    bad = table.filter(pl.col("status") != "ok")
    if len(bad):
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(bad["status"].value_counts().rows()))
        console.warn(f"{len(bad):,} of {len(table):,} inputs have no heatmap ({kinds}); the columns status and reason say why")
    console.say(f"{len(table) - len(bad):,} images explained; written to {out / PAGE_FILE}")
