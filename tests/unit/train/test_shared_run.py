from __future__ import annotations

from pathlib import Path

import pytest

from isograft.errors import IsograftError
from isograft.run import RunFolder
from isograft.train.launch import Ranks
from isograft.train.shared_run import _shared_run

FIRST = Ranks(launcher="srun", launch="srun 17")
AGAIN = Ranks(launcher="srun", launch="srun 17", restarted=True)


def left_unfinished(out: Path) -> None:
    with _shared_run(out, {"seed": 0}, False, FIRST) as run:
        run.remember(plan=[])
        (out / "checkpoints").mkdir()
        run.checkpoint.write_bytes(b"a state")


def test_a_launcher_that_starts_its_own_run_again_goes_on_with_it(tmp_path: Path) -> None:
    left_unfinished(tmp_path / "out")
    with _shared_run(tmp_path / "out", {"seed": 0}, False, AGAIN) as run:
        assert isinstance(run, RunFolder) and run.resumed and run.record["plan"] == []


@pytest.mark.parametrize("ranks", [FIRST, Ranks(), Ranks(launcher="srun", launch="srun 18", restarted=True), Ranks(restarted=True)])
def test_any_other_start_is_refused_a_folder_in_which_a_run_lies(ranks: Ranks, tmp_path: Path) -> None:
    left_unfinished(tmp_path / "out")
    with pytest.raises(IsograftError, match=r"already exists.*--resume"), _shared_run(tmp_path / "out", {"seed": 0}, False, ranks):
        pass


def test_a_run_that_was_resumed_by_hand_belongs_to_the_launch_that_resumed_it(tmp_path: Path) -> None:
    left_unfinished(tmp_path / "out")
    other = Ranks(launcher="srun", launch="srun 18")
    with _shared_run(tmp_path / "out", {"seed": 0}, True, other):
        pass
    with _shared_run(tmp_path / "out", {"seed": 0}, False, Ranks(launcher="srun", launch="srun 18", restarted=True)) as run:
        assert run.resumed
