"""One network in the memory of several processes: each holds a part of every weight, of its gradient and of the optimizer's state.

By torch's `fully_shard` (arXiv:2304.11277), a process has the weights of a block whole only while it computes with them. What looks at the
network itself (saving, watching, the end) does so inside of `whole`, where it is an ordinary one with the weights of all. So a saved state
is that of one process, and a run goes on from it in any number of them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from isograft.errors import IsograftError
from isograft.plan import Plan
from isograft.ssl.gather import world_size

PARALLEL, REPLICATED, SHARDED = "parallel", "replicated", "sharded"
MEMORY_SHARE = 1 / 3
"""Of a GPU's memory, what the network may take whole; the rest is for activations."""
TRAINED_BYTES, KEPT_BYTES = 16, 4
"""Per weight: itself, its gradient and two moments; and a weight of a teacher."""


def decide_parallel(plan: Plan, network: nn.Module, device: torch.device) -> None:
    """Decide whether every process holds the network, or a part of it; one process alone has no choice.

    Args:
        plan: Receives `parallel`.
        network: What is trained, with all that is beside it.
        device: Where the training will run.

    Raises:
        IsograftError: The plan file wants parts of a network with batch norm.
    """
    if world_size() == 1:
        return
    memory = int(torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else None
    plan.decide(PARALLEL, *choose_parallel(network, memory))
    if plan[PARALLEL] == SHARDED and _has_batch_norm(network):
        raise IsograftError(
            f"the plan sets {PARALLEL} to {SHARDED}, but the network, or the projector that trains it, has batch norm, which was not tried "
            f"in parts; choose a vision transformer and --method mae, dino or supervised, or set {PARALLEL} to {REPLICATED}"
        )


def choose_parallel(network: nn.Module, memory: int | None) -> tuple[str, str]:
    """Return `"replicated"` or `"sharded"`, and why.

    Args:
        network: What is trained, with all that is beside it.
        memory: Bytes of a GPU; None without one.
    """
    if memory is None:
        return REPLICATED, "there is no GPU whose memory would be short"
    need = sum(weight.numel() * (TRAINED_BYTES if weight.requires_grad else KEPT_BYTES) for weight in network.parameters())
    told = f"{need / 1e9:.3g} GB for weights, gradients and optimizer, of the {memory / 1e9:.3g} GB of a GPU"
    if need <= MEMORY_SHARE * memory:
        return REPLICATED, told
    if _has_batch_norm(network):
        return REPLICATED, f"{told}; a network with batch norm is not held in parts"
    return SHARDED, told


def is_sharded(plan: Plan) -> bool:
    """Whether every process of several holds a part of the network."""
    return world_size() > 1 and plan.get(PARALLEL, REPLICATED) == SHARDED


def in_shares(network: nn.Module, device: torch.device) -> nn.Module:
    """Cut a network in place, block by block: every process keeps its part of each weight, on its device. All must call this.

    From then on the network can only be called as a whole: outside of its blocks, weights are there in its own forward pass alone.

    Args:
        network: On any device, with the same weights in all processes.
        device: Where it will run.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (world_size(),))
    network.to(memory_format=torch.contiguous_format)  # weights in another order cannot be cut
    stacks = [module for name, module in network.named_modules() if name.rpartition(".")[2] == "blocks"]
    for block in (block for stack in stacks for block in stack.children()):
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)
    return network


def whole(trainer: pl.Trainer) -> AbstractContextManager[None]:
    """Let the trainer's module hold its network whole, with the weights of all, to be looked at; every process must come here."""
    strategy = trainer.strategy
    return strategy.whole() if isinstance(strategy, Sharded) else nullcontext()


class Sharded(DDPStrategy):
    """Trains a copy of the module's networks in shares; the originals stay on the CPU and receive the weights whenever they are asked for.

    Before the training, after it, and inside of `whole`, the module holds the originals.
    """

    def __init__(self) -> None:
        super().__init__()
        self._originals, self._shares = nn.ModuleDict(), nn.ModuleDict()

    def model_to_device(self) -> None:
        """Share the networks out; the weights of a saved state are in them by now."""
        self._originals = nn.ModuleDict(dict(self.lightning_module.named_children()))
        self._shares = nn.ModuleDict({name: in_shares(copy.deepcopy(one), self.root_device) for name, one in self._originals.items()})
        self._hold(self._shares)
        super().model_to_device()

    def configure_ddp(self) -> None:
        """Leave the module as it is: shared networks average their gradients themselves."""

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Let the module hold the originals, with the weights of all; every process must come here."""
        self._gather()
        self._hold(self._originals)
        try:
            yield
        finally:
            self._hold(self._shares)

    def on_train_end(self) -> None:
        """Leave the trained weights in the originals."""
        self._gather()

    def teardown(self) -> None:
        """Give the module its networks back."""
        self._hold(self._originals)
        super().teardown()

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """The state of an optimizer as one process would have it; whole in the first process only. Every process must come here."""
        state: dict[str, Any] = super().optimizer_state(optimizer)
        like = dict(zip(self._shares.parameters(), self._originals.parameters(), strict=True))
        weights = [like[weight] for weight in _weights(optimizer)]
        joined = {at: {name: self._joined(one, weights[at]) for name, one in of.items()} for at, of in state["state"].items()}
        return {**state, "state": joined}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take this process's part of a saved state."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            weights = _weights(optimizer)
            parts = {at: {name: _part(one, weights[at]) for name, one in of.items()} for at, of in state["state"].items()}
            optimizer.load_state_dict({**state, "state": parts})

    def _hold(self, networks: nn.ModuleDict) -> None:
        for name, network in networks.items():
            self.lightning_module.add_module(name, network)

    @torch.no_grad()
    def _gather(self) -> None:
        shares = self._shares.state_dict()
        for name, original in self._originals.state_dict().items():
            original.copy_(shares[name].full_tensor() if _is_share(shares[name]) else shares[name])

    def _joined(self, value: Any, weight: Tensor) -> Any:
        """A moment of a weight, whole, and in the memory order of the weight, as fused optimizers want it."""
        if not _is_share(value):
            return value
        full = value.full_tensor()
        return torch.empty_like(weight).copy_(full) if self.is_global_zero else value


def _has_batch_norm(network: nn.Module) -> bool:
    return any(isinstance(module, _BatchNorm) for module in network.modules())


def _weights(optimizer: torch.optim.Optimizer) -> list[Any]:
    """The weights in the order by which a state numbers them."""
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def _is_share(value: Any) -> bool:
    from torch.distributed.tensor import DTensor

    return isinstance(value, DTensor)


def _part(value: Tensor, weight: Any) -> Tensor:
    """What this process holds of a weight's moment; a count of steps is no moment and stays whole."""
    from torch.distributed.tensor import distribute_tensor

    if value.shape != weight.shape:
        return value
    return distribute_tensor(value.contiguous(), weight.device_mesh, weight.placements, src_data_rank=None)
