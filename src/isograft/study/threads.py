"""How many threads a job computes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def computing_on(threads: int) -> Iterator[None]:
    """Compute on so many threads, wherever the job runs: another number rounds sums in another order."""
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
