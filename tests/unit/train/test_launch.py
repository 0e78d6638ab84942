"""Who this process is among those that train together, read from what torchrun and srun write into the environment."""

from __future__ import annotations

import pytest

from isograft.errors import IsograftError
from isograft.train.launch import Ranks, ranks_of, srun_address

SRUN = {"SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_TASKS_PER_NODE": "4(x2)"}
SRUN |= {"SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "17"}
TORCHRUN = {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}


def test_nothing_in_the_environment_is_one_process() -> None:
    assert ranks_of({}) == Ranks()
    assert not ranks_of({}).several


def test_a_slurm_script_around_srun_is_one_process() -> None:
    assert not ranks_of({"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_JOB_ID": "1"}).several


def test_torchrun_says_who_we_are_and_whether_it_began_anew() -> None:
    assert ranks_of(TORCHRUN) == Ranks(3, 4, 1, 2, "torchrun", False)
    assert ranks_of({**TORCHRUN, "TORCHELASTIC_RESTART_COUNT": "2"}).restarted
    assert ranks_of(TORCHRUN).machines == 2


def test_srun_says_who_we_are() -> None:
    assert ranks_of(SRUN) == Ranks(5, 8, 1, 4, "srun", False, "srun 17")


def test_a_job_that_slurm_has_put_back_in_the_queue_is_the_same_launch_again() -> None:
    assert ranks_of({**SRUN, "SLURM_RESTART_COUNT": "1"}) == Ranks(5, 8, 1, 4, "srun", True, "srun 17")


def test_two_launches_of_torchrun_are_told_apart_and_a_restart_is_not() -> None:
    first, again, other = (
        ranks_of({**TORCHRUN, "TORCHELASTIC_RUN_ID": name, "TORCHELASTIC_RESTART_COUNT": count}) for name, count in ("a0", "a1", "b0")
    )
    assert first.launch == again.launch != other.launch


@pytest.mark.parametrize("changed", [{"SLURM_STEP_NUM_TASKS": "7"}, {"SLURM_STEP_TASKS_PER_NODE": "5,3"}])
def test_another_number_on_every_machine_is_refused(changed: dict[str, str]) -> None:
    with pytest.raises(IsograftError, match=r"unevenly.*the same number on each"):
        ranks_of({**SRUN, **changed})


def test_a_broken_environment_is_named() -> None:
    with pytest.raises(IsograftError, match="names several processes, but not which of them this is"):
        ranks_of({"WORLD_SIZE": "two", "RANK": "0"})


def test_a_launch_of_torchrun_without_a_name_is_known_by_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    launches = []
    for parent in (7, 7, 8):
        monkeypatch.setattr("os.getppid", lambda parent=parent: parent)
        launches.append(ranks_of({**TORCHRUN, "TORCHELASTIC_RUN_ID": "none"}).launch)
    assert launches[0] == launches[1] != launches[2]


def test_processes_of_srun_meet_at_the_first_machine_of_their_step() -> None:
    assert srun_address({"SLURM_STEP_NODELIST": "gpu[007-009,12],x1", "SLURM_NODELIST": "a1", "SLURM_JOB_ID": "12345"}) == ("gpu007", 17345)
    assert srun_address({"SLURM_NODELIST": "a1,a2", "SLURM_JOB_ID": "3", "MASTER_PORT": "29500"}) == ("a1", 29500)
    assert srun_address({"SLURM_NODELIST": "a1,a2", "MASTER_ADDR": "10.0.0.1"})[0] == "10.0.0.1"


def test_two_steps_of_a_job_meet_at_two_ports() -> None:
    assert len({srun_address({"SLURM_NODELIST": "a1", "SLURM_JOB_ID": "3", "SLURM_STEP_ID": step})[1] for step in ("0", "1")}) == 2


def test_a_job_without_machines_is_named() -> None:
    with pytest.raises(IsograftError, match="set MASTER_ADDR"):
        srun_address({"SLURM_JOB_ID": "3"})
