"""`isograft predict`: classify images, one row per input, whatever its state."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from isograft import console
from isograft.errors import IsograftError, RunInterrupted
from isograft.inputs import Inputs, list_inputs
from isograft.passport import require_classifier
from isograft.predict.parts import Parts, parts_beside
from isograft.predictions import check_pooling, further_columns, pooled
from isograft.run import require_free
from isograft.settings import PredictSettings

if TYPE_CHECKING:
    from torch import nn

    from isograft.explain.folder import HeatmapFolder
    from isograft.judgement import Judgement
    from isograft.model import Model
    from isograft.predict.answering import Answering


def predict(settings: PredictSettings) -> pl.DataFrame:
    """Classify images and write one row per input.

    A file that cannot be read gets a row with its `status` and `reason` and no answer; the run goes on. Finished rows lie in a folder
    beside the table until it is written, so that an interrupted run can be continued. With the engine torch the numbers of an image are
    those `evaluate` gives it, to the bit.

    Returns:
        The table written: `id` (first 16 digits of the pixels' SHA-256), `uri`, `status`, `reason`, `predicted`,
        one calibrated `p_<class>` float64 per class, how far the answer can be relied on (see `isograft.predictions.judged`), then the
        further columns of an input table. With `--pool-by` one row per value of that column:
        see `isograft.predictions.pooled`.

    Raises:
        IsograftError: The model is no classifier, the input names no image, the output exists already or cannot be written, the run to
            be resumed was another, or not one input could be answered (the table, which says why, is written).
        RunInterrupted: Ctrl-C, after rows were kept.
    """
    if settings.out.exists() and not settings.resume:
        raise IsograftError(f"--out {settings.out} already exists; delete it or choose another name")
    if settings.heatmaps is not None and not settings.resume:
        require_free(settings.heatmaps, "--heatmaps")
    require_classifier(settings.model)
    with parts_beside(settings.out, settings.resume) as parts:
        inputs = list_inputs(settings)
        if settings.pool_by is not None:
            check_pooling(inputs.further, settings.pool_by)
        model = _classifier(settings)
        try:
            _answer(parts, model, inputs, settings)
        except BaseException as error:
            with suppress(IsograftError):
                parts.flush()
            if isinstance(error, KeyboardInterrupt) and parts.rows:
                told = f"stopped after {parts.rows:,} of {len(inputs.uris):,} inputs; they are in {parts.path}: add --resume to continue"
                raise RunInterrupted(told) from None
            raise
        return _finish(parts, list(model.classes or ()), settings)


def _classifier(settings: PredictSettings) -> Model:
    from isograft.model import Model

    model = Model.load(settings.model)
    if settings.pool_by in {point.name for point in model.judgement().points if point.by_hand}:
        raise IsograftError(
            f"--pool-by {settings.pool_by}: the answer has a column of that name itself, a threshold of the model; rename yours"
        )
    _warn_of_unknown(model.judgement())
    return model


def _answer(parts: Parts, model: Model, inputs: Inputs, settings: PredictSettings) -> None:
    """Answer the inputs that are not answered yet, into the parts."""
    model.symmetries(settings.tta)  # refuses early
    todo = inputs.rows(parts.rows, len(inputs.uris))
    with _answering(parts, model, inputs, settings) as answering, console.Progress(len(todo.uris), "Predicting") as progress:
        further: pl.DataFrame | None = None
        for table in answering.tables(todo, parts.rows):
            if further is None:
                further = further_columns(todo.further, (), table.columns)
            done = int(progress.done)
            parts.add(pl.concat([table, further[done : done + len(table)]], how="horizontal"))
            progress.advance(len(table))
    parts.flush()


@contextmanager
def _answering(parts: Parts, model: Model, inputs: Inputs, settings: PredictSettings) -> Iterator[Answering]:
    """What answers, as it was decided when the run began; what was asked is noted, or compared with the note."""
    name = parts.asked.get("computed_by", settings.engine)
    if name == "ray":
        from isograft.predict.ray_answering import RayAnswering

        _begin(parts, model, inputs, settings, "ray")
        with RayAnswering(settings, len(inputs.uris)) as cluster:
            yield cluster
        return
    from isograft.engines import engine_for
    from isograft.predict.answering import LocalAnswering

    network = model.network()
    with engine_for(model, name, len(inputs.uris), network) as engine:
        _begin(parts, model, inputs, settings, engine.name)
        heatmaps = None if settings.heatmaps is None else heatmap_folder(model, network, settings.heatmaps, len(inputs.uris))
        yield LocalAnswering(model, engine, model.symmetries(settings.tta), settings.threads, heatmaps)


def _begin(parts: Parts, model: Model, inputs: Inputs, settings: PredictSettings, engine: str) -> None:
    from isograft.engines.kept import machine, versions

    asked: dict[str, Any] = settings.model_dump(mode="json", exclude={"resume", "out", "threads"})
    begun, here = bool(parts.asked), machine()
    known = parts.asked.get("machine", here)
    parts.begin(inputs, asked=asked, model_content=model.content_hash, software=versions(), computed_by=engine, machine=known)
    if begun:
        console.say(f"{parts.rows:,} of {len(inputs.uris):,} inputs were answered before")
        if known != here:
            console.warn("the run was begun on another kind of machine, which may round the last digits differently")


def _finish(parts: Parts, classes: list[str], settings: PredictSettings) -> pl.DataFrame:
    """Write the table from the parts, say what was done, and let the parts go."""
    answered = table = parts.scan().collect()
    if settings.pool_by is None:
        parts.write(settings.out)
    else:
        answered = pooled(table, settings.pool_by, classes, settings.top_k)
        parts.write(settings.out, answered)
    parts.remove()
    bad = table.filter(pl.col("status") != "ok")
    if len(bad):
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(bad["status"].value_counts().rows()))
        console.warn(f"{len(bad):,} of {len(table):,} inputs have no answer ({kinds}); the columns status and reason say why")
    together = "" if settings.pool_by is None else f", {len(answered):,} answers by {settings.pool_by}"
    if len(bad) == len(table):
        raise IsograftError(f"none of the {len(table):,} inputs could be answered; {settings.out} says why, one by one")
    console.say(f"{len(table) - len(bad):,} images classified{together}; written to {settings.out}")
    return answered


def _warn_of_unknown(judgement: Judgement) -> None:
    """Say what the model cannot tell of its answers."""
    if judgement.missing:
        console.warn(f"the probabilities are not calibrated, and nothing says when not to answer: {judgement.missing}")
    elif not judgement.domains:
        console.warn(
            "the model was handed on without its labeled cases, so no image can be found out of domain, and abstain does not count it"
        )


def heatmap_folder(model: Model, network: nn.Module, folder: Path, inputs: int) -> HeatmapFolder:
    """Where heatmaps go; the explainer hooks into a copy of the network, which meanwhile answers further images."""
    from isograft.explain.explainer import Explainer
    from isograft.explain.folder import HeatmapFolder

    explainer = Explainer(copy.deepcopy(network), model.preprocess)
    console.say(f"heatmaps: {explainer.method} ({explainer.reason})")
    return HeatmapFolder(folder, explainer, list(model.classes or ()), inputs)
