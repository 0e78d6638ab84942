"""What a pretraining step and all that surrounds it cost on this machine: measured, so that a time limit can be kept."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import torch

from isograft.data.loader import ViewSpec
from isograft.data.preprocess import Preprocess
from isograft.plan import Plan
from isograft.ssl.gather import world_size
from isograft.ssl.method import Method
from isograft.train import monitoring, statistics
from isograft.train.engine import training_device
from isograft.train.micro_batches import as_many_as_fit, in_parts, largest_pass, least_part
from isograft.train.pretrain_plan import Costs
from isograft.train.sharding import in_shares, is_sharded

SAVING_SECONDS = 2.0


def measure_costs(
    method: Method, specs_at: Callable[[int], list[ViewSpec]], plan: Plan, preprocess: Preprocess, images: int, began: float
) -> Costs:
    """Time a step at every view size of the plan, and whole images at the input size.

    Args:
        method: The method; a copy is measured, in all processes at once with a share of the batch, the original stays as it is.
        specs_at: The views wanted at a size.
        plan: Holds `resolution`, `batch_size` and `precision`.
        preprocess: The one preprocessing.
        images: Images of the pool.
        began: `time.monotonic()` at the start of the command.
    """
    device = training_device()
    trial = copy.deepcopy(method).to(device)
    embedding = _seconds_per_image(trial, plan, preprocess)
    if is_sharded(plan):
        in_shares(trial, device)
    step = {int(size): _seconds_per_step(trial, specs_at(int(size)), plan, preprocess) for size, _ in plan["resolution"]}
    watch = embedding * min(monitoring.SAMPLE, images)
    reserve = embedding * min(statistics.SAMPLE, images) + watch + SAVING_SECONDS
    return Costs(step, watch, reserve, time.monotonic() - began)


def _seconds_per_step(method: Method, specs: list[ViewSpec], plan: Plan, preprocess: Preprocess) -> float:
    """Time of one whole step: the best of two after one to warm up."""
    device = next(method.parameters()).device
    method.train()
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-6, fused=True)
    batch = plan["batch_size"] // world_size()
    views = [_noise(batch, spec.size, device) for spec in specs for _ in range(spec.count)]
    labels = torch.zeros(batch, dtype=torch.int64, device=device)

    def once(micro: int) -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=plan["precision"] == "bf16"), in_parts(method.by_image(), micro):
            loss = method([preprocess.normalise(view) for view in views], labels).loss
        loss.backward()
        optimizer.step()

    # What does not fit is computed in parts, as the training will do; of several processes one cannot repeat a step by itself.
    largest = largest_pass(views)
    least = least_part(method) if world_size() == 1 else largest
    return as_many_as_fit(lambda micro: _best_of(lambda: once(micro), device), largest, least)


@torch.no_grad()
def _seconds_per_image(method: Method, plan: Plan, preprocess: Preprocess) -> float:
    """Time to embed one whole image."""
    network = method.export_backbone().eval()
    device = next(network.parameters()).device
    pixels = _noise(plan["batch_size"], plan["image_size"], device)

    def embedded(batch: int) -> float:
        return _best_of(lambda: [network(preprocess.normalise(part)) for part in torch.split(pixels, batch)], device) / len(pixels)

    return as_many_as_fit(embedded, len(pixels))


def _noise(batch: int, side: int, device: torch.device) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, side, side, 3), dtype=torch.uint8, generator=generator).to(device)


def _best_of(once: Callable[[], object], device: torch.device, repeats: int = 2) -> float:
    best = float("inf")
    for attempt in range(repeats + 1):
        began = time.perf_counter()
        once()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if attempt:  # the first pass compiles kernels
            best = min(best, time.perf_counter() - began)
    return best
