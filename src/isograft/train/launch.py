"""Which of several processes this is, as torchrun or SLURM's srun says in the environment; one that was started by itself is the only one.

There is no option for it: the launcher knows the machines, the devices and where the processes meet.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from isograft.errors import IsograftError


@dataclass(frozen=True)
class Ranks:
    """This process among those of a training.

    Attributes:
        rank: Its number.
        world_size: How many there are, on all machines.
        local_rank: Its number on this machine, and that of its GPU.
        local_world_size: How many there are on every machine.
        launcher: Who started them.
        restarted: Whether the launcher has started them again: torchrun after one of them died, SLURM a job that was put back in the queue.
        launch: What the launcher calls this start, the same when it starts them again.
        nameless: Whether nobody gave the launch a name.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    launcher: str = ""
    restarted: bool = False
    launch: str = ""
    nameless: bool = False

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.world_size > 1

    @property
    def machines(self) -> int:
        """On how many machines they run."""
        return self.world_size // self.local_world_size


def ranks_of(environment: Mapping[str, str]) -> Ranks:
    """Read from the environment what torchrun or srun has written there; nothing there means one process.

    Raises:
        IsograftError: The machines run different numbers of processes, or a value is no number.
    """
    try:
        if "WORLD_SIZE" in environment and "RANK" in environment:
            world, rank = int(environment["WORLD_SIZE"]), int(environment["RANK"])
            local_world, local = (int(environment[name]) for name in ("LOCAL_WORLD_SIZE", "LOCAL_RANK")) if world > 1 else (1, 0)
            launcher, restarts = "torchrun", int(environment.get("TORCHELASTIC_RESTART_COUNT", 0))
            launch = environment.get("TORCHELASTIC_RUN_ID", "")
            nameless = launch == "none"  # all launches without a name are called so
            launch = f"by process {os.getppid()}" if nameless else launch
        elif "SLURM_STEP_NUM_TASKS" in environment:  # only inside of srun, not in the script around it
            world, nodes = int(environment["SLURM_STEP_NUM_TASKS"]), int(environment.get("SLURM_STEP_NUM_NODES", 1))
            rank, local = int(environment["SLURM_PROCID"]), int(environment["SLURM_LOCALID"])
            local_world = world // nodes if world % nodes == 0 and _even(environment) else 0
            launcher, restarts = "srun", int(environment.get("SLURM_RESTART_COUNT", 0))
            launch, nameless = environment.get("SLURM_JOB_ID", ""), False
        else:
            return Ranks()
    except (KeyError, ValueError) as error:
        told = f"the environment names several processes, but not which of them this is ({error}); start them with torchrun or srun"
        raise IsograftError(told + ", or unset WORLD_SIZE and RANK for a single process") from error
    if local_world < 1 or world % local_world or not 0 <= local < local_world:
        raise IsograftError(
            f"{launcher} started {world} processes unevenly on the machines; start the same number on each "
            "(--nproc-per-node, --ntasks-per-node)"
        )
    return Ranks(rank, world, local, local_world, launcher, restarts > 0, f"{launcher} {launch}" if launch else "", nameless)


def _even(environment: Mapping[str, str]) -> bool:
    """Whether SLURM's `4(x2)` names one number for all machines, and not a list as `4,3`."""
    return "," not in environment.get("SLURM_STEP_TASKS_PER_NODE", "")


def srun_address(environment: Mapping[str, str]) -> tuple[str, int]:
    """Where the processes of srun meet: the first machine of the step, at a port from the number of job and step.

    MASTER_ADDR and MASTER_PORT come first, where they are set.

    Raises:
        IsograftError: The environment does not name the machines.
    """
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

    machines = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_NODELIST", "")
    address = environment.get("MASTER_ADDR") or SLURMEnvironment.resolve_root_node_address(machines)
    if not address:
        raise IsograftError("the environment does not name the machines of the SLURM job; set MASTER_ADDR to the first of them")
    numbers = [int(environment.get(name, "0")) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID")]
    return address, int(environment.get("MASTER_PORT") or 15000 + (numbers[0] + 101 * numbers[1]) % 10000)
