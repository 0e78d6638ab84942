from __future__ import annotations

import pytest
import torch
from threadpoolctl import threadpool_info

from isograft.study.threads import computing_on


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_a_job_computes_on_its_threads_and_leaves_the_others_as_they_were() -> None:
    before = torch.get_num_threads(), blas_threads()
    with pytest.raises(ValueError, match="on its way"), computing_on(1):
        assert torch.get_num_threads() == 1
        assert blas_threads() == {1}
        raise ValueError("on its way")
    assert (torch.get_num_threads(), blas_threads()) == before
