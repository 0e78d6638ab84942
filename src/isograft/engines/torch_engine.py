"""A network computed by torch: the bits that `evaluate` gives."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch

from isograft.batching import batch_size
from isograft.engines.engine import Engine, Images, Outputs

if TYPE_CHECKING:
    from isograft.data.preprocess import Preprocess

_setting = threading.Lock()


class TorchEngine(Engine):
    """Full float32 with repeatable kernels: on the GPU when there is one, otherwise a batch per core.

    Args:
        network: A `Classifier`, an `Ensemble` of them, or any network giving logits float32 (B, K); moved to the GPU when there is one.
        preprocess: The model's preprocessing; only `normalise` is applied here.
        batch: Images per batch; None chooses by the model and the device.
        workers: Batches at a time on a CPU; None for as many as torch would use threads.
        side: Side of the squares, if not the model's.
    """

    name = "torch"

    def __init__(
        self,
        network: torch.nn.Module,
        preprocess: Preprocess,
        batch: int | None = None,
        workers: int | None = None,
        side: int | None = None,
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = network.to(self.device).eval()
        self._normalise = preprocess.normalise
        side = side or preprocess.image_size
        size = batch or batch_size(side, sum(one.numel() for one in network.parameters()), self.device.type)
        super().__init__(side, size, 1 if self.device.type == "cuda" else workers or torch.get_num_threads())

    def _prepared(self) -> Callable[[], None]:
        return (lambda: None) if self.device.type == "cuda" else use_one_core

    def _compute(self, batch: Images) -> Outputs:
        from isograft.networks.ensemble import Ensemble
        from isograft.networks.heads import Classifier

        with torch.inference_mode(), self._quiet():
            x = self._normalise(torch.from_numpy(batch).to(self.device))
            if isinstance(self._network, Classifier | Ensemble):
                logits, embeddings = self._network.outputs(x)
            else:
                logits = self._network(x).unsqueeze(1)
                embeddings = logits[..., :0]
        return logits.float().cpu().numpy(), embeddings.float().cpu().numpy()

    def _quiet(self) -> AbstractContextManager[None]:
        """Repeatable kernels of the GPU. The switch is one for all threads, so threads of a CPU, which need it not, leave it alone."""
        if self.device.type == "cpu":
            return nullcontext()
        quiet: AbstractContextManager[None] = torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        )
        return quiet


def use_one_core() -> None:
    """Let the calling thread, and no other, compute with torch on one core.

    Torch keeps the number of threads per thread, but what it hands to new threads in one place for all; there it is put back.
    """
    with _setting:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        if before != 1:
            back = threading.Thread(target=torch.set_num_threads, args=(before,))
            back.start()
            back.join()
