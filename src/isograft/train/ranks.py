"""Several processes that train one network: how they meet, and how they end together.

The processes are started from outside, by `torchrun` or `srun`. How they agree in between: `isograft.train.agreement`.
"""

from __future__ import annotations

import atexit
import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from isograft import console
from isograft.errors import IsograftError, RunInterrupted, ToldElsewhere, interruption_code
from isograft.train.launch import Ranks, ranks_of, srun_address

PATIENCE = timedelta(days=7)
"""How long the others wait while the first process of a machine decodes a pool."""

_control: Any = None
_store: Any = None
_here: Ranks | None = None
_joined = 0


def here() -> Ranks:
    """Which of several processes this is; as the environment says until they have met."""
    return _here or ranks_of(os.environ)


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the other processes of this training, if there are any; one speaks, the first until something fails.

    Raises:
        IsograftError: The others cannot be reached, or one of them has died.
        ToldElsewhere: Another process says to the user why they all end.
    """
    global _joined
    ranks = here()
    if not ranks.several:
        yield ranks
        return
    if _control is None:  # once for the life of the process: the launcher's meeting place knows each of them once
        _connect(ranks)
    _joined += 1
    with ExitStack() as stack:
        if ranks.rank > 0:
            stack.enter_context(console.silent())
        try:
            yield ranks
        except (IsograftError, RuntimeError) as problem:
            said = _said_once(problem, ranks)
            if said is problem:
                raise
            raise said from problem
        except KeyboardInterrupt as stop:
            if ranks.rank == 0:
                raise
            raise ToldElsewhere("interrupted", interruption_code(stop)) from stop


def _said_once(problem: IsograftError | RuntimeError, ranks: Ranks) -> IsograftError | RuntimeError:
    """What this process ends with, so that one of all says why: the first that comes, or for a stop the first by its number."""
    if isinstance(problem, ToldElsewhere):
        return problem
    if isinstance(problem, RunInterrupted):
        return problem if ranks.rank == 0 else ToldElsewhere(str(problem), problem.exit_code)
    broken = not isinstance(problem, IsograftError)
    if broken and not (isinstance(problem, dist.DistError) or "gloo" in str(problem)):
        return problem
    try:
        first = _store.add(f"failed-{_joined}", 1) == 1
    except RuntimeError:  # the process that kept the store is gone
        first = True
    text = "another process of this training has ended without a word; its last saved state is kept: add --resume to go on from it"
    code = problem.exit_code if isinstance(problem, IsograftError) else IsograftError.exit_code
    if not first:
        return ToldElsewhere(str(problem), code)
    return IsograftError(text) if broken else problem


def _connect(ranks: Ranks) -> None:
    global _control, _store, _here
    if dist.is_initialized():
        raise IsograftError("torch.distributed is in use already in this process; let isograft begin it")
    if ranks.launcher == "srun":
        address, port = srun_address(os.environ)
        os.environ.update(MASTER_ADDR=address, MASTER_PORT=str(port))
        os.environ.update(WORLD_SIZE=str(ranks.world_size), RANK=str(ranks.rank))
        os.environ.update(LOCAL_RANK=str(ranks.local_rank), LOCAL_WORLD_SIZE=str(ranks.local_world_size))
    if torch.cuda.is_available():
        if ranks.local_world_size > torch.cuda.device_count():
            raise IsograftError(
                f"{ranks.launcher} started {ranks.local_world_size} processes on a machine with {torch.cuda.device_count()} GPUs; "
                "start at most one for each GPU"
            )
        torch.cuda.set_device(ranks.local_rank)
    try:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        console.say(f"waiting for {ranks.world_size} processes at {os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}")
        place = _meeting_place(ranks)
        _store = dist.PrefixStore(f"isograft-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", place)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=_store, rank=ranks.rank, world_size=ranks.world_size)
    except (RuntimeError, ValueError, KeyError) as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise IsograftError(f"process {ranks.rank} cannot join the others at {where}: {error}; check that it can be reached") from error
    _control, _here = dist.new_group(backend="gloo", timeout=PATIENCE), replace(ranks, launch=_launch(ranks, place))
    atexit.register(dist.destroy_process_group)


def _meeting_place(ranks: Ranks) -> Any:
    """Where the processes exchange their addresses: kept by torchrun, or else by the first process.

    torchrun may keep it over a restart, with the addresses of the dead still in it, so every attempt has its own part.
    """
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    keeps, patience = ranks.rank == 0 and not _kept_by_torchrun(), dist.default_pg_timeout
    return dist.TCPStore(address, port, ranks.world_size, keeps, timeout=patience, multi_tenant=True)  # type: ignore[attr-defined]


def _kept_by_torchrun() -> bool:
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _launch(ranks: Ranks, place: Any) -> str:
    """What this launch is called: of torchrun's without a name, the first attempt makes one up and leaves it for the next.

    A process number alone would not do: that of torchrun in a container is the same every time.
    """
    if not (_kept_by_torchrun() and ranks.nameless):
        return ranks.launch
    return f"{ranks.launch}, {place.compare_set('isograft-launch', '', uuid.uuid4().hex).decode()}"


def control() -> Any:
    """The gloo group over which the processes agree; None for a process that is alone."""
    return _control


def local_rank() -> int:
    """Number of this process on its machine, 0 when it is alone."""
    return here().local_rank if dist.is_available() and dist.is_initialized() else 0


def lightning_options(sharded: bool = False) -> dict[str, Any]:
    """What a Lightning trainer must know of the processes: alone, or each with a share of the batch and every gradient averaged.

    Buffers need not be sent around: batch statistics and centres are computed from all processes. Parameters without a gradient are
    allowed, since some networks have them.

    Args:
        sharded: Whether each of several processes holds a part of the network only.
    """
    if _control is None:
        return {"devices": 1}
    from pytorch_lightning.strategies import DDPStrategy

    from isograft.train.sharding import Sharded

    ranks = here()
    strategy = Sharded() if sharded else DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)
    return {"devices": ranks.local_world_size, "num_nodes": ranks.machines, "strategy": strategy}


def lightning_plugins() -> list[Any]:
    """Where Lightning finds the processes: in the environment, as torchrun writes it; it looks for no launcher of its own."""
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    return [LightningEnvironment() if _control is None else TorchElasticEnvironment()]
