"""How a pretraining run is laid out: method, views, resolution, steps and rates, each with its reason."""

from __future__ import annotations

import math

import torch

from isograft.data.manifest import Manifest
from isograft.errors import IsograftError
from isograft.plan import Plan
from isograft.settings import PretrainSettings

DEFAULT_MINUTES = 30
DEFAULT_EPOCHS = 200
LEAST_IMAGES = 8


def plan_training(plan: Plan, settings: PretrainSettings, manifest: Manifest, *, started: bool, device: torch.device) -> None:
    """Decide batch, rates and resolution; the number of steps follows once a step's time is known."""
    if len(manifest) < LEAST_IMAGES:
        raise IsograftError(f"{settings.data} holds {len(manifest)} usable images; pretraining needs at least {LEAST_IMAGES}")
    method = plan["method"]
    most = 256 if device.type == "cuda" else 64
    batch = plan.choose(
        "batch_size",
        settings.batch_size,
        min(most, len(manifest)),
        "many steps matter more than many negatives on a CPU" if most == 64 else "fills the GPU",
    )
    if batch > len(manifest):
        raise IsograftError(
            f"--batch-size {batch} is more than the {len(manifest)} usable images of {settings.data}; use at most {len(manifest)}"
        )
    if method == "supervised" and started:
        rate, reason = 5e-4, "a start from weights"
    elif started:
        rate, reason = 3e-4, "a start from weights: a fifth of a new network's rate keeps what they know"
    else:
        rate, reason = 2e-3 * math.sqrt(batch / 128), "a new network, AdamW, scaled with the square root of the batch"
    plan.choose("lr", settings.lr, rate, reason)
    plan.decide("new_layer_lr", 1e-3 if started else plan["lr"], "projector or head, always new")
    plan.decide("layer_decay", 0.8 if started else 1.0, "early layers move least" if started else "no layer is trained yet")
    plan.decide("weight_decay", 0.05, "AdamW's usual value")
    plan.decide("schedule", "cosine", "ends at zero")
    constant = started or plan["method"] == "mae" or plan["fixed_size"]
    resolution = [[plan["image_size"], 1.0]] if constant else _progressive(plan["image_size"])
    plan.decide(
        "resolution", resolution, "one size throughout" if len(resolution) == 1 else "small views first: more images in the same time"
    )


def _progressive(size: int) -> list[list[float]]:
    """Four fifths of the steps at about 0.6 of the size, the rest at the full size."""
    small = 8 * max(4, round(size * 0.6 / 8))
    return [[small, 0.8], [size, 0.2]] if small < size else [[size, 1.0]]


def plan_steps(plan: Plan, settings: PretrainSettings, images: int, seconds_per_step: dict[int, float]) -> None:
    """Decide the number of steps from the epochs or the time.

    Args:
        plan: Receives `total_steps` and `epochs`.
        settings: What was asked.
        images: Images of the pool.
        seconds_per_step: Measured time of a step at each view size.
    """
    per_epoch = images // plan["batch_size"]
    mean = sum(share * seconds_per_step[int(size)] for size, share in plan["resolution"])
    limit = settings.max_time
    if settings.epochs != "auto":
        steps, reason = settings.epochs * per_epoch, "as asked"
        if limit is not None and steps * mean > limit:
            steps, reason = int(limit / mean), f"--max-time ends before {settings.epochs} epochs: a step takes {mean:.2f} s here"
    else:
        bound = limit if limit is not None else 60.0 * DEFAULT_MINUTES
        steps, reason = int(bound / mean), f"{bound / 60:.3g} minutes at {mean:.2f} s per step, measured"
        if limit is None and steps > DEFAULT_EPOCHS * per_epoch:
            steps, reason = DEFAULT_EPOCHS * per_epoch, f"{DEFAULT_EPOCHS} epochs; more need --epochs or --max-time"
    steps = max(1, int(steps))
    plan.decide("total_steps", steps, reason)
    plan.decide("epochs", round(steps / per_epoch, 2), f"{steps} steps of {plan['batch_size']} of {images} images")
    plan.decide("warmup_steps", max(1, min(steps // 10, 2 * per_epoch)), "a tenth of the run, two epochs at most")
