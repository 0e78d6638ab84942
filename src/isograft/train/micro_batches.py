"""Steps whose batch does not fit into memory: the same batch in parts, with the same loss.

The network sees the batch in parts and keeps nothing of them but what comes out; on the way back each part is computed once more
(gradient checkpointing, arXiv:1604.06174, over images in place of layers). So the loss is that of the whole batch, also where it
compares all images with each other, as a contrastive loss does: it is the gradient cache of arXiv:2101.06983. Batch norm in training
normalises each part by itself.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from isograft.errors import IsograftError

T = TypeVar("T")
_TOLD = ("DefaultCPUAllocator", "not enough memory", "ALLOC_FAILED")  # by torch on a CPU, and by CUDA's libraries


def out_of_memory(error: BaseException) -> bool:
    """Whether torch found no room on the device, or on a CPU."""
    return isinstance(error, torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and any(word in str(error) for word in _TOLD))


def release_memory() -> None:
    """Give back what torch keeps of a GPU's memory for later, so that it can be cut anew."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def least_part(network: nn.Module) -> int:
    """Images that a part must hold: batch norm cannot normalise one by itself where a feature map has one pixel."""
    normed = any(isinstance(one, nn.modules.batchnorm._BatchNorm) and one.training for one in network.modules())
    return 2 if normed else 1


def largest_pass(views: Sequence[Tensor]) -> int:
    """Pictures that go through a network at once when the batch is whole: all views (B, H, W, 3) of one size."""
    seen: Counter[int] = Counter()
    for view in views:
        seen[view.shape[1]] += len(view)
    return max(seen.values())


def halved(size: int | None, largest: int, least: int = 2) -> int | None:
    """Images per part after a failure.

    Args:
        size: Images per part that did not fit; None when the batch was whole.
        largest: Images that the network sees at once when the batch is whole.
        least: Images that a part must hold.

    Returns:
        Half as many, or None when parts cannot be smaller.
    """
    half = min(size or largest, largest) // 2
    return half if half >= least else None


def as_many_as_fit(work: Callable[[int], T], size: int, least: int = 1) -> T:
    """Do something with so many images at a time, or with half as many and so on where memory is full.

    Args:
        work: Takes the number of images; can be repeated.
        size: How many to begin with.
        least: How few are of use.

    Raises:
        IsograftError: Not even those fit.
    """
    while True:
        try:
            return work(size)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        release_memory()
        fewer = halved(size, size, least)
        if fewer is None:
            raise IsograftError(f"there is not enough memory for {size} images; choose a smaller --image-size or --backbone")
        size = fewer


@contextmanager
def in_parts(modules: Sequence[nn.Module], size: int | None) -> Iterator[None]:
    """Let modules see at most so many images at a time while they are called in here.

    Args:
        modules: Each maps (N, …) to (N, …), image by image but for batch norm; none inside another.
        size: Images per part; None for all at once.
    """
    if size is None:
        yield
        return
    with ExitStack() as undo:
        for module in modules:
            module.forward = functools.partial(_forward, module.forward, module, size, least_part(module))
            undo.callback(module.__dict__.pop, "forward")
        yield


def _forward(forward: Callable[[Tensor], Tensor], module: nn.Module, size: int, least: int, images: Tensor) -> Tensor:
    count = max(1, min(-(-len(images) // size), len(images) // least))
    if count == 1:
        return forward(images)
    parts = images.tensor_split(count)  # as even as can be, and of an odd number one part larger rather than too small
    if not torch.is_grad_enabled():
        return torch.cat([forward(part) for part in parts])
    contexts = functools.partial(_contexts, module)
    return torch.cat([checkpoint(forward, part, use_reentrant=False, context_fn=contexts) for part in parts])


def _contexts(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Around the first computation of a part, and around its repetition."""
    return nullcontext(), _counted_already(module)


@contextmanager
def _counted_already(module: nn.Module) -> Iterator[None]:
    """Keep the running statistics of batch norm as they are: they have seen these images."""
    norms = [one for one in module.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm) and one.training]
    before = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)
