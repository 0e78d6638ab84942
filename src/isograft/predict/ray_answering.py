"""The same rows from many processes or machines under Ray, which share the folders of the images and of the model."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import polars as pl

from isograft.data.address import Address
from isograft.errors import IsograftError
from isograft.predict.answering import CHUNK

if TYPE_CHECKING:
    from isograft.inputs import Inputs
    from isograft.predict.answering import LocalAnswering
    from isograft.settings import PredictSettings

RETRIES = 3
CORES = 4
"""Cores of one worker where there is no GPU: more threads of one Python process would wait for each other."""

_BEGUN = 2
"""Chunks begun per worker: one is computed, one waits."""


class RayAnswering:
    """Workers that each hold the model and answer a few hundred inputs at a time with torch: one per GPU, or per few cores.

    A cluster named by Ray's own RAY_ADDRESS is joined, otherwise one is started on this machine. Ray's usage statistics stay off. What a
    lost worker was doing is begun again, at most three times.

    Args:
        settings: What is asked; paths must mean the same on every machine.
        total: Inputs there are.

    Raises:
        IsograftError: Ray is not installed.
    """

    def __init__(self, settings: PredictSettings, total: int) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        try:
            import ray
        except ModuleNotFoundError:
            raise IsograftError("--engine ray needs Ray, which is not installed: pip install 'isograft[cluster]'") from None
        self._ray: Any = ray
        self._settings, self._total = settings, total
        self._started = False
        self._workers: list[Any] = []

    def __enter__(self) -> Self:
        if not self._ray.is_initialized():
            self._ray.init(include_dashboard=False, log_to_driver=False)
            self._started = True
        here = self._ray.cluster_resources()
        gpus, cores = int(here.get("GPU", 0)), max(1, int(here.get("CPU", 1)))
        each = 1 if gpus else min(CORES, cores)
        workers = min(gpus or cores // each, max(1, -(-self._total // CHUNK)))
        remote = self._ray.remote(num_cpus=each, num_gpus=1 if gpus else 0, max_restarts=RETRIES, max_task_retries=RETRIES)
        heatmaps = self._settings.heatmaps
        told = (self._settings.model.absolute(), self._settings.tta, heatmaps and heatmaps.absolute(), self._total, each)
        self._workers = [remote(_Worker).remote(*told) for _ in range(workers)]
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for worker in self._workers:
            self._ray.kill(worker)
        if self._started:
            self._ray.shutdown()

    def tables(self, inputs: Inputs, offset: int = 0) -> Iterator[pl.DataFrame]:
        """Classify inputs; see `Answering.tables`.

        Raises:
            IsograftError: The model cannot be used there, or a worker was lost too often.
        """
        begins = iter(range(0, len(inputs.uris), CHUNK))
        free = deque(self._workers * _BEGUN)
        begun: deque[tuple[Any, Any]] = deque()
        while True:
            while free and (begin := next(begins, None)) is not None:
                worker, chunk = free.popleft(), _anywhere(inputs.rows(begin, begin + CHUNK))
                begun.append((worker, worker.table.remote(chunk, offset + begin)))
            if not begun:
                return
            worker, reference = begun.popleft()
            table = self._got(reference)
            free.append(worker)
            yield table

    def _got(self, reference: Any) -> pl.DataFrame:
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else error) from None
        except self._ray.exceptions.RayError as error:
            told = f"Ray lost a worker more than {RETRIES} times ({type(error).__name__}); see Ray's log, then continue with --resume"
            raise IsograftError(told) from error
        if isinstance(answer, IsograftError):
            raise answer
        return pl.read_ipc(io.BytesIO(answer))


class _Worker:
    """One process of the cluster, with the model."""

    def __init__(self, model: Path, tta: bool, heatmaps: Path | None, total: int, threads: int) -> None:
        self._told = model, tta, heatmaps, total, threads
        self._answering: LocalAnswering | None = None

    def table(self, inputs: Inputs, offset: int) -> bytes | IsograftError:
        """The rows of some inputs in Arrow's format; a clear complaint comes back as a value, so that Ray does not try it again."""
        try:
            self._answering = self._answering or self._open()
            stream = io.BytesIO()
            pl.concat(self._answering.tables(inputs, offset)).write_ipc(stream)
            return stream.getvalue()
        except IsograftError as error:
            return error

    def _open(self) -> LocalAnswering:
        from isograft.engines.torch_engine import TorchEngine
        from isograft.model import Model
        from isograft.predict.answering import LocalAnswering
        from isograft.predict.predict import heatmap_folder

        folder, tta, heatmaps, total, threads = self._told
        model = Model.load(folder)
        network = model.network()
        files = None if heatmaps is None else heatmap_folder(model, network, heatmaps, total)
        return LocalAnswering(model, TorchEngine(network, model.preprocess, workers=threads), model.symmetries(tta), None, files)


def _anywhere(inputs: Inputs) -> Inputs:
    """The inputs with places that do not depend on the folder a process runs in, and without what only the table needs."""
    places = [place if place is None or place.remote else Address(str(Path(place.file).absolute()), place.part) for place in inputs.places]
    return replace(inputs, places=places, further=pl.DataFrame())
