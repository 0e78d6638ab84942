"""`isograft suggest`: which unlabeled images are worth labeling next."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from isograft import console
from isograft.data.address import Address
from isograft.data.manifest import encode_uri
from isograft.errors import IsograftError
from isograft.inputs import Inputs, list_inputs
from isograft.passport import open_passport
from isograft.predictions import further_columns, table_bytes
from isograft.run import write_atomic
from isograft.settings import SuggestSettings
from isograft.suggest.candidates import Candidates, find_candidates
from isograft.suggest.pool import Choice, Embeddings, Floats, Pool, compact
from isograft.suggest.rule import Decision, decide

if TYPE_CHECKING:
    from isograft.model import Model


@dataclass(frozen=True)
class Answers:
    """What the model says of the candidates.

    Attributes:
        pool: The candidates as the strategies see them.
        p: Calibrated probabilities float64 (N, K), K = 0 for a backbone.
    """

    pool: Pool
    p: Floats


def suggest(settings: SuggestSettings) -> pl.DataFrame:
    """Choose the images whose labels should help most, and write them, best first.

    Returns:
        The table written: `uri` (as seen from the table), `rank` from 1, `id`, `why`; from a classifier `predicted` and `p_predicted`,
        calibrated; then the pool's further columns.

    Raises:
        IsograftError: The model cannot be opened, the strategy needs a classifier, nothing is left to label, or the output exists
            already or cannot be written.
    """
    if settings.out.exists():
        raise IsograftError(f"--out {settings.out} already exists; delete it or choose another name")
    open_passport(settings.model)
    inputs = list_inputs(settings)
    from isograft.model import Model

    model = Model.load(settings.model)
    decision = decide(settings, model)
    console.say(f"strategy: {decision.strategy} ({decision.reason})")
    found = find_candidates(settings, inputs, model)
    answers = _ask(settings, inputs, model, found)
    chosen = decision.choose(answers.pool, answers.p, min(settings.n, len(found.rows)), settings.seed)
    table = _table(settings, inputs, model, found, answers, decision, chosen)
    write_atomic(settings.out, table_bytes(table, settings.out))
    few = f", all there are of the {settings.n:,} asked for" if len(table) < settings.n else ""
    console.say(f"{len(table):,} of {len(found.rows):,} unlabeled images suggested{few}; written to {settings.out}")
    return table


def _ask(settings: SuggestSettings, inputs: Inputs, model: Model, found: Candidates) -> Answers:
    """Embed the candidates and the pool's own labeled images."""
    from isograft.suggest.embedding import asked_network, known_embeddings, look

    network = asked_network(model)
    embeddings, p = look(model, network, _places(inputs, found.rows), settings.threads, "Embedding")
    known = known_embeddings(model)
    if len(found.labeled):
        labeled, _ = look(model, network, _places(inputs, found.labeled), settings.threads, "Embedding labeled images")
        known = np.concatenate([known, labeled])
    reduced: tuple[Embeddings, Embeddings] = compact(embeddings, known)
    return Answers(Pool(*reduced, found.groups, found.turns), p)


def _places(inputs: Inputs, rows: np.ndarray) -> list[Address]:
    return [place for row in rows.tolist() if (place := inputs.places[row]) is not None]


def _table(
    settings: SuggestSettings,
    inputs: Inputs,
    model: Model,
    found: Candidates,
    answers: Answers,
    decision: Decision,
    chosen: list[Choice],
) -> pl.DataFrame:
    """The chosen images, best first.

    The file stands first: whoever looks for the column that names files (`ingest --labels`) takes the first of equals, and a file may
    be called like a rank.
    """
    rows = [int(found.rows[one.row]) for one in chosen]
    classes = list(model.classes or ())
    table = pl.DataFrame(
        {
            "uri": [_seen_from(settings.out, inputs, row) for row in rows],
            "rank": range(1, len(rows) + 1),
            "id": [found.ids[one.row] for one in chosen],
            "why": [decision.why(one, answers.p, classes) for one in chosen],
        },
        schema={"uri": pl.String, "rank": pl.Int64, "id": pl.String, "why": pl.String},
    )
    if classes:
        p = answers.p[[one.row for one in chosen]]
        table = table.with_columns(
            pl.Series("predicted", [classes[k] for k in p.argmax(axis=1)], pl.String), pl.Series("p_predicted", p.max(axis=1), pl.Float64)
        )
    further = inputs.further[rows] if inputs.further.width else inputs.further
    kept = further_columns(further, (), table.columns)
    return pl.concat([table, kept], how="horizontal") if kept.width else table


def _seen_from(out: Path, inputs: Inputs, row: int) -> str:
    """How the table calls an image: by the path from the table's folder; by the whole path where they share no folder; a URL as it is.

    A cell is the file's own name, so that a CSV reader finds the file; or, of a file that holds several images, a uri as in a manifest.
    """
    place = inputs.places[row]
    if place is None or place.remote:
        return inputs.uris[row]
    folder, file = os.path.abspath(out.parent), os.path.abspath(place.file)  # noqa: PTH100  (links stay as the user wrote them)
    apart = os.path.splitdrive(folder)[0] != os.path.splitdrive(file)[0]
    if not apart and os.path.commonpath([folder, file]) != Path(file).anchor:
        file = Path(os.path.relpath(file, folder)).as_posix()
    return f"{encode_uri(file)}#{encode_uri(place.part)}" if place.part else file
