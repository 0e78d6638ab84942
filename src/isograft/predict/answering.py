"""From inputs to finished rows of the table, a few hundred at a time, on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import polars as pl
from threadpoolctl import threadpool_limits

from isograft.data.decode import quiet_opencv
from isograft.data.remote import io_threads
from isograft.inference import Answer, Picture, answered, paired, read_ahead
from isograft.predictions import judged

if TYPE_CHECKING:
    from isograft.engines import Engine
    from isograft.explain.folder import HeatmapFolder
    from isograft.inputs import Inputs
    from isograft.judgement import Judgement
    from isograft.model import Model

CHUNK = 256
"""Rows that are judged together: so few that the network never waits for it."""

HELD_SECONDS = 10.0
"""Rows are not held longer than this, however slowly they come (heatmaps take a second each), so that they can be kept."""


class Answering(Protocol):
    """Turns inputs into rows."""

    def tables(self, inputs: Inputs, offset: int = 0) -> Iterator[pl.DataFrame]:
        """Classify inputs.

        Args:
            inputs: N inputs.
            offset: Place of the first of them among all that were asked for.

        Yields:
            Tables of `CHUNK` rows, or of fewer where they come slowly, in the order of the inputs: `id`, `uri`, `status`, `reason`, and the
            columns of `isograft.predictions.judged`.
        """
        ...


@dataclass
class LocalAnswering:
    """Decodes, computes and judges in this process, all at the same time; only finished rows are held.

    Attributes:
        model: The classifier.
        engine: Of it.
        symmetries: Under which turns and mirror images it is shown an image.
        threads: Threads that decode; None for one per core, or more where images lie elsewhere.
        heatmaps: Where a picture and an array of each image go, if they are wanted.
        cores: Cores it may use; None for all of the machine.
        now: Seconds on a clock that never goes back.
    """

    model: Model
    engine: Engine
    symmetries: Sequence[str]
    threads: int | None = None
    heatmaps: HeatmapFolder | None = None
    cores: int | None = None
    now: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._judgement: Judgement = self.model.judgement()
        self._classes = list(self.model.classes or ())

    def tables(self, inputs: Inputs, offset: int = 0) -> Iterator[pl.DataFrame]:
        """Classify inputs; see `Answering.tables`."""
        rows: list[tuple[str, Picture, Answer | None]] = []
        since = self.now()
        with quiet_opencv(), threadpool_limits(1, user_api="blas"):  # further threads would only wait, and cost the network its cores
            for row in self._rows(inputs, offset):
                rows.append(row)
                if len(rows) == CHUNK or self.now() - since >= HELD_SECONDS:
                    yield self._table(rows)
                    rows, since = [], self.now()
        if rows:
            yield self._table(rows)

    def _rows(self, inputs: Inputs, offset: int) -> Iterator[tuple[str, Picture, Answer | None]]:
        found = [place for place in inputs.places if place is not None]
        threads = self.threads or io_threads(found, self.cores or os.cpu_count() or 1)
        pictures = read_ahead(found, self.model.preprocess, threads, ahead=max(64, 2 * self.engine.size))
        said = paired(pictures, lambda images: answered(self.engine, images, self.symmetries))
        for number, (uri, place) in enumerate(zip(inputs.uris, inputs.places, strict=True)):
            if place is None:
                yield uri, Picture(None, *inputs.problems[number]), None
                continue
            picture, answer = next(said)
            if self.heatmaps is not None and picture.pixels is not None and answer is not None:
                probabilities = self._judgement.probabilities([answer])[0]
                self.heatmaps.add(offset + number, uri, place.holding(picture.pixel_hash), picture.pixels, probabilities)
            yield uri, picture.told, answer

    def _table(self, rows: list[tuple[str, Picture, Answer | None]]) -> pl.DataFrame:
        ids = [picture.pixel_hash[:16] if picture.pixel_hash else None for _, picture, _ in rows]
        columns = {
            "id": ids,
            "uri": [uri for uri, _, _ in rows],
            "status": [picture.status for _, picture, _ in rows],
            "reason": [picture.reason for _, picture, _ in rows],
        }
        described = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))
        answers, unfit = [answer for _, _, answer in rows], [picture.unfit for _, picture, _ in rows]
        return pl.concat([described, judged(answers, ids, self._judgement, self._classes, unfit)], how="horizontal")
