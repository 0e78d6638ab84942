"""How many threads a training, or a job of a study, computes on: another number rounds sums in another order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from isograft import console
from isograft.run import RunFolder


@contextmanager
def computing_on(threads: int) -> Iterator[None]:
    """Compute on so many threads, wherever that is."""
    import scipy.linalg  # noqa: F401  (limits hold for the libraries that are loaded)
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def computing_as_begun(run: RunFolder) -> Iterator[None]:
    """Compute on the threads that torch has now, or on resume on those the run began with, whatever machine this is."""
    import torch

    now = torch.get_num_threads()
    if "torch_threads" not in run.record:
        run.remember(torch_threads=now)
    kept = int(run.record["torch_threads"])
    if kept != now:
        console.say(f"torch computes on {kept} threads, as it did when the run began, not on {now}")
    with computing_on(kept):
        yield
