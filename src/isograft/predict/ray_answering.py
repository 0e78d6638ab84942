"""The same rows from many processes or machines under Ray, which share the folders of the images and of the model."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import polars as pl

from isograft import console
from isograft.errors import IsograftError
from isograft.predict.answering import CHUNK

if TYPE_CHECKING:
    from isograft.inputs import Inputs
    from isograft.predict.answering import LocalAnswering
    from isograft.settings import PredictSettings

RETRIES = 3
CORES = 4
"""Most cores of one worker: more threads of one Python process would wait for each other."""

START_SECONDS = 120.0
"""How long workers may take to start; on a cluster that others use, there may be no room for them for hours."""

_BEGUN = 2
"""Chunks begun per worker: one is computed, one waits."""


class Plan(NamedTuple):
    """What is asked of a cluster: so many `workers`, each with so many `cores` and `gpus` of one machine."""

    workers: int
    cores: int
    gpus: int


def planned(nodes: Sequence[dict[str, Any]], chunks: int) -> Plan:
    """Workers that fit the machines of a cluster: one per GPU, or where there is none one per few cores.

    A worker lies on one machine, so what matters is what each machine has, not the sum.

    Args:
        nodes: The machines as `ray.nodes()` tells them.
        chunks: Pieces of work there are; more workers than that are not asked for.
    """
    alive = [node.get("Resources", {}) for node in nodes if node.get("Alive")]
    found = [(int(one.get("CPU", 0)), int(one.get("GPU", 0))) for one in alive]
    with_gpu = [(cores, gpus) for cores, gpus in found if cores and gpus]
    if with_gpu:
        cores = max(1, min(CORES, *(cores // gpus for cores, gpus in with_gpu)))
        fit = sum(min(gpus, here // cores) for here, gpus in with_gpu)
    else:
        cores = max(1, min(CORES, max((cores for cores, _ in found), default=1)))
        fit = sum(here // cores for here, _ in found)
    return Plan(max(1, min(fit, chunks)), cores, 1 if with_gpu else 0)


class RayAnswering:
    """Workers that each hold the model and answer a few hundred inputs at a time with torch: one per GPU, or per few cores.

    A cluster named by Ray's own RAY_ADDRESS is joined, otherwise one is started on this machine. Ray's usage statistics stay off. What a
    lost worker was doing is begun again, at most three times.

    Args:
        settings: What is asked; paths must mean the same on every machine.
        total: Inputs there are.

    Raises:
        IsograftError: Ray is not installed, or (on entering) no worker could start in time.
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
        try:
            if not self._ray.is_initialized():
                self._ray.init(include_dashboard=False, log_to_driver=False)
                self._started = True
            self._start(planned(self._ray.nodes(), -(-self._total // CHUNK)))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _start(self, plan: Plan) -> None:
        """Start workers and wait until they have; go on with those that did where some found no room."""
        remote = self._ray.remote(num_cpus=plan.cores, num_gpus=plan.gpus, max_restarts=RETRIES, max_task_retries=RETRIES)
        model, heatmaps = self._settings.model.absolute(), self._settings.heatmaps
        told = (model, self._settings.tta, heatmaps and heatmaps.absolute(), self._total, plan.cores, self._settings.threads)
        self._workers = [remote(_Worker).remote(*told) for _ in range(plan.workers)]
        asked = {worker.pid.remote(): worker for worker in self._workers}
        ready, late = self._ray.wait(list(asked), num_returns=len(asked), timeout=START_SECONDS)
        each = f"{plan.cores} cores" + (f" and {plan.gpus} GPU" if plan.gpus else "")
        if not ready:
            raise IsograftError(
                f"--engine ray: no worker of {each} on one machine could start within {START_SECONDS:.0f} s; "
                "look with ray status whether other work holds them, then repeat the command"
            )
        try:
            self._ray.get(ready)
        except self._ray.exceptions.RayError as error:
            raise IsograftError(
                f"--engine ray: a worker did not start ({type(error).__name__}); Ray's log tells why, "
                "and isograft must be installed on every machine"
            ) from error
        for reference in late:
            self._ray.kill(asked[reference])
        if late:
            console.warn(f"--engine ray: {len(ready)} of {len(asked)} workers of {each} found room; the run goes on with these")
        self._workers = [asked[reference] for reference in ready]

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

    def __init__(self, model: Path, tta: bool, heatmaps: Path | None, total: int, cores: int, threads: int | None) -> None:
        self._told = model, tta, heatmaps, total, cores, threads
        self._answering: LocalAnswering | None = None

    def pid(self) -> int:
        """Its process, once it has started."""
        return os.getpid()

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

        folder, tta, heatmaps, total, cores, threads = self._told
        model = Model.load(folder)
        network = model.network()
        files = None if heatmaps is None else heatmap_folder(model, network, heatmaps, total)
        engine = TorchEngine(network, model.preprocess, workers=cores)
        return LocalAnswering(model, engine, model.symmetries(tta), threads, files, cores)


def _anywhere(inputs: Inputs) -> Inputs:
    """The inputs with places that do not depend on the folder a process runs in, and without what only the table needs."""
    places = [place if place is None or place.remote else replace(place, file=str(Path(place.file).absolute())) for place in inputs.places]
    return replace(inputs, places=places, further=pl.DataFrame())
