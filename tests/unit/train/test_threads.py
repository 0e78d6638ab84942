from __future__ import annotations

from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_info

from isograft.run import RunFolder
from isograft.train.threads import computing_as_begun, computing_on


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_a_job_computes_on_its_threads_and_leaves_the_others_as_they_were() -> None:
    before = torch.get_num_threads(), blas_threads()
    with pytest.raises(ValueError, match="on its way"), computing_on(1):
        assert torch.get_num_threads() == 1
        assert blas_threads() == {1}
        raise ValueError("on its way")
    assert (torch.get_num_threads(), blas_threads()) == before


def test_a_resumed_run_computes_on_the_threads_it_began_with_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunFolder(tmp_path, resumed=False)
    with computing_on(2), computing_as_begun(run):
        assert torch.get_num_threads() == 2
    assert capsys.readouterr().err == ""
    with computing_on(1):
        with computing_as_begun(RunFolder(tmp_path, True, run.record)):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 1
    assert "on 2 threads, as it did when the run began, not on 1" in capsys.readouterr().err
