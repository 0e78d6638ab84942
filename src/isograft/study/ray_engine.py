"""Jobs of a study on a Ray cluster, whose machines share the folders of the study, the data and the cache."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from isograft.errors import IsograftError
from isograft.study.engines import Outcome, work_quietly
from isograft.study.jobs import Job

RETRIES = 3


class RayEngine:
    """Ray tasks, one per job; a job whose process or machine is lost is begun again, at most three times.

    A cluster named by Ray's own RAY_ADDRESS is joined, otherwise one is started on this machine. Ray's usage statistics stay off.

    Args:
        out: The study's folder, the same path on every machine.
        cache_dir: Folder of the decoded images.
        slots: Jobs at a time.
        threads: Cores that each takes.

    Raises:
        IsograftError: Ray is not installed.
    """

    def __init__(self, out: Path, cache_dir: Path, slots: int, threads: int) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        try:
            import ray
        except ModuleNotFoundError:
            raise IsograftError("--engine ray needs Ray, which is not installed: pip install 'isograft[cluster]'") from None
        self.slots = slots
        self._ray: Any = ray
        self._out, self._cache_dir, self._threads = out, cache_dir, threads
        self._running: dict[Any, Job] = {}
        self._started = False

    def __enter__(self) -> Self:
        if not self._ray.is_initialized():
            where = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": self.slots * self._threads}
            self._ray.init(include_dashboard=False, log_to_driver=False, **where)
            self._started = True
        remote = self._ray.remote(num_cpus=self._threads, max_retries=RETRIES)
        self._do = remote(_do)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        if self._started:
            self._ray.shutdown()

    def submit(self, job: Job) -> None:
        """Begin a job; see `Engine.submit`."""
        self._running[self._do.remote(job, self._out, self._cache_dir, self._threads)] = job

    def finished(self) -> Iterable[Outcome]:
        """Wait for a job to end; see `Engine.finished`."""
        ended, _ = self._ray.wait(list(self._running), num_returns=1)
        outcomes: list[Outcome] = []
        for reference in ended:
            job = self._running.pop(reference)
            try:
                complaint = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:
                outcomes.append((job, error.cause if isinstance(error.cause, BaseException) else error))
            except self._ray.exceptions.RayError as error:
                outcomes.append((job, IsograftError(f"Ray lost it more than {RETRIES} times ({type(error).__name__})")))
            else:
                outcomes.append((job, complaint))
        return outcomes


def _do(job: Job, out: Path, cache_dir: Path, threads: int) -> IsograftError | None:
    """Do a job in a worker; a clear complaint comes back as a value, so that Ray does not try it again."""
    try:
        work_quietly(job, out, cache_dir, threads)
    except IsograftError as error:
        return error
    return None
