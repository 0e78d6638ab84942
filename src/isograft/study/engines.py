"""Where the jobs of a study run: in this process, in processes of their own, or on a Ray cluster; all do the same work."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stderr, suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from isograft.errors import IsograftError, RunInterrupted, Terminated
from isograft.study.jobs import Job
from isograft.study.work import do
from isograft.train.threads import computing_on

ORPHAN_SECONDS = 1.0
SAVE_SECONDS = 30.0
Outcome = tuple[Job, BaseException | None]


class Engine(Protocol):
    """Runs jobs whose parents are finished."""

    slots: int
    """Jobs that run at a time."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None: ...

    def submit(self, job: Job) -> None:
        """Begin a job."""
        ...

    def finished(self) -> Iterable[Outcome]:
        """Wait until at least one job has ended; return those that have, each with what it raised, if anything."""
        ...


class LocalEngine:
    """Processes on this machine, kept warm from job to job, with the cores dealt out among them; for one job at a time this process itself.

    Args:
        out: The study's folder.
        cache_dir: Folder of the decoded images.
        slots: Jobs at a time.
        threads: Threads of each.
    """

    def __init__(self, out: Path, cache_dir: Path, slots: int, threads: int) -> None:
        self.slots = slots
        self._out, self._cache_dir, self._threads = out, cache_dir, threads
        self._pool: ProcessPoolExecutor | None = None
        self._running: dict[Future[None], Job] = {}
        self._next: list[Job] = []

    def __enter__(self) -> Self:
        if self.slots > 1:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.slots, mp_context=context, initializer=_begin, initargs=(os.getpid(),))
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._pool is not None:
            if kind is not None:
                self._let_save(kind)
                for process in list((self._pool._processes or {}).values()):
                    process.kill()
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _let_save(self, kind: type[BaseException]) -> None:
        """Wait a while for trainings to save their state; a second signal ends the wait.

        Ctrl-C reaches the workers as well. SIGTERM may have reached this process alone, so it is handed on as what it is taken for, which
        a worker that got both bears.
        """
        if issubclass(kind, KeyboardInterrupt):
            with suppress(KeyboardInterrupt):
                if issubclass(kind, Terminated) and self._pool is not None:
                    for number in list(self._pool._processes or {}):
                        with suppress(ProcessLookupError):
                            os.kill(number, signal.SIGINT)
                wait(self._running, timeout=SAVE_SECONDS)

    def submit(self, job: Job) -> None:
        """Begin a job; see `Engine.submit`."""
        if self._pool is None:
            self._next.append(job)
        else:
            self._running[self._pool.submit(work_quietly, job, self._out, self._cache_dir, self._threads)] = job

    def finished(self) -> Iterable[Outcome]:
        """Wait for a job to end; see `Engine.finished`."""
        if self._pool is None:
            job = self._next.pop(0)
            try:
                work_quietly(job, self._out, self._cache_dir, self._threads)
            except RunInterrupted:
                raise KeyboardInterrupt from None  # the study says how to go on
            except Exception as error:
                return [(job, error)]
            return [(job, None)]
        ended, _ = wait(self._running, return_when=FIRST_COMPLETED)
        return [(self._running.pop(future), _lost(future.exception())) for future in ended]


def work_quietly(job: Job, out: Path, cache_dir: Path, threads: int) -> None:
    """Do a job; what it tells the user goes to `logs/KEY.txt` of the study, since many jobs would talk at once.

    Args:
        job: The job; its parents are finished.
        out: The study's folder.
        cache_dir: Folder of the decoded images.
        threads: Threads for everything in it.
    """
    log = out / "logs" / f"{job.key}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as stream, redirect_stderr(stream), computing_on(threads):
        try:
            do(job, out, cache_dir, threads)
        except Exception:
            traceback.print_exc(file=stream)
            raise


def _begin(parent: int) -> None:
    """Prepare a worker: it ends when the study is killed, as nobody would be there to record what it does, and bears Ctrl-C and SIGTERM.

    Both may reach all workers. One that waits for a job would die of it, and take the others with it before they have saved their
    state; a training sets handlers of its own.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(ORPHAN_SECONDS)
        os._exit(1)

    if sys.platform != "win32":
        threading.Thread(target=watch, daemon=True).start()


def _lost(error: BaseException | None) -> BaseException | None:
    if isinstance(error, BrokenProcessPool):
        return IsograftError("its process ended unexpectedly (killed, or out of memory): try fewer --jobs")
    return error
