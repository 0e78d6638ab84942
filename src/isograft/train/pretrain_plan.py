"""How a pretraining run is laid out: method, views, resolution, steps and rates, each with its reason."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from isograft.data.manifest import Manifest
from isograft.errors import IsograftError
from isograft.plan import Plan
from isograft.settings import PretrainSettings
from isograft.train.monitoring import SAMPLE
from isograft.train.shares import even, plan_processes
from isograft.train.statistics import statistics_reason

DEFAULT_MINUTES = 30
DEFAULT_EPOCHS = 200
WATCHING_SHARE = 0.05
MOST_MORE = 3  # a machine that was busy while a step was measured may be so much faster later
LEAST_IMAGES = 8


@dataclass(frozen=True)
class Costs:
    """Measured times in seconds.

    Attributes:
        step: One training step, by view size in pixels.
        watch: Embedding the images the monitor looks at.
        reserve: What follows the last step: batch statistics, the last look, saving.
        spent: From the start of the command until now.
    """

    step: dict[int, float]
    watch: float
    reserve: float
    spent: float


def plan_training(
    plan: Plan, settings: PretrainSettings, manifest: Manifest, *, started: bool, kept_statistics: bool, device: torch.device
) -> None:
    """Decide batch, rates and resolution; the number of steps follows once a step's time is known.

    Args:
        plan: Holds `method` and `image_size`; receives the decisions.
        settings: What was asked.
        manifest: The pool.
        started: Whether the network begins with weights.
        kept_statistics: Whether all its batch statistics came with them.
        device: Where the training runs.
    """
    if len(manifest) < LEAST_IMAGES:
        raise IsograftError(f"{settings.data} holds {len(manifest)} usable images; pretraining needs at least {LEAST_IMAGES}")
    method = plan["method"]
    most = 256 if device.type == "cuda" else 64
    batch = plan.choose(
        "batch_size",
        settings.batch_size,
        even(min(most, len(manifest))),
        "many steps matter more than many negatives on a CPU" if most == 64 else "fills the GPU",
    )
    plan_processes(plan)
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
    plan.decide("frozen_bn", kept_statistics, statistics_reason(kept_statistics))
    plan.decide("weight_decay", 0.05, "AdamW's usual value")
    plan.decide("schedule", "cosine", "ends at zero")
    constant = started or plan["method"] == "mae" or plan["fixed_size"]
    resolution = [[plan["image_size"], 1.0]] if constant else _progressive(plan["image_size"])
    plan.decide(
        "resolution", resolution, "one size throughout" if len(resolution) == 1 else "small views first: more images in the same time"
    )


def small_view(size: int) -> int:
    """Side in pixels of the views that a new network sees first: about 0.6 of the full size, a multiple of 8, at least 32."""
    return 8 * max(4, round(size * 0.6 / 8))


def _progressive(size: int) -> list[list[float]]:
    """Four fifths of the steps at about 0.6 of the size, the rest at the full size."""
    small = small_view(size)
    return [[small, 0.8], [size, 0.2]] if small < size else [[size, 1.0]]


def time_limit(settings: PretrainSettings, plan: Plan) -> float | None:
    """Seconds the whole command may take: as asked, half an hour when nothing is, none when only epochs or steps are."""
    if settings.max_time is not None or plan.edited("total_steps"):
        return settings.max_time
    return 60.0 * DEFAULT_MINUTES if settings.epochs == "auto" else None


def plan_steps(plan: Plan, settings: PretrainSettings, images: int, costs: Costs | None) -> None:
    """Decide the number of steps from the epochs or the time.

    Args:
        plan: Receives `total_steps` and what follows from it.
        settings: What was asked.
        images: Images of the pool.
        costs: Measured times, when the time is limited.
    """
    per_epoch = plan.state("steps_per_epoch", images // plan["batch_size"], f"{images} images in batches of {plan['batch_size']}")
    if settings.epochs != "auto":
        steps, reason = settings.epochs * per_epoch, "as asked"
    else:
        steps, reason = DEFAULT_EPOCHS * per_epoch, f"{DEFAULT_EPOCHS} epochs; more need --epochs or --max-time"
    most, watching = steps, min(_watching_steps(plan, images), math.ceil(steps / 3))
    limit = time_limit(settings, plan)
    if costs is not None and limit is not None:
        fit, mean = _fitting(plan, costs, limit)
        time_alone = settings.epochs == "auto" and settings.max_time is not None
        if fit < steps or time_alone:
            steps, reason = fit, f"{limit / 60:.3g} minutes at {mean:.2g} s per step, measured"
        most = MOST_MORE * fit if time_alone else most
        watching = math.ceil(costs.watch / (WATCHING_SHARE * mean))
    total = plan.decide("total_steps", max(1, steps), reason)
    plan.state("most_steps", total if plan.edited("total_steps") else max(most, total), "however fast the machine turns out to be")
    if plan.decide("pace", [[0, 0.0], [total, 1.0]], "the share of the run that is done, by step")[-1][0] != total:
        raise IsograftError(f"the pace of the plan file ends at step {plan['pace'][-1][0]}, but the run has {total} steps; end it there")
    plan.revise("epochs", round(total / per_epoch, 2), f"{total} steps of {plan['batch_size']} of {images} images")
    plan.decide("warmup", max(1, min(total // 10, 2 * per_epoch)) / max(2, total), "share of the run: a tenth, two epochs at most")
    plan.decide("history_every", max(1, total // 100), "a hundred rows of history")
    plan.decide("monitor_every", max(1, math.ceil(total / 10), watching), "ten times per run, or three where that would take too long")


def _watching_steps(plan: Plan, images: int) -> int:
    """Steps that take so long that a look at the embedding after them adds a twentieth: counted, where nothing was measured.

    A step is forward and backward, three times the arithmetic of the former, for two views; a look is forward for its sample.
    """
    size = max(int(side) for side, _ in plan["resolution"])
    area = sum(share * (int(side) / size) ** 2 for side, share in plan["resolution"])
    steps: int = math.ceil(min(SAMPLE, images) / (WATCHING_SHARE * 3 * 2 * plan["batch_size"] * area))
    return steps


def _fitting(plan: Plan, costs: Costs, limit: float) -> tuple[int, float]:
    """The number of steps that fit into a time limit in seconds, and the mean seconds of a step.

    Raises:
        IsograftError: Not even one fits.
    """
    mean = sum(share * costs.step[int(size)] for size, share in plan["resolution"])
    fit = int((limit - costs.spent - costs.reserve) / (mean * (1 + WATCHING_SHARE)))
    if fit < 1:
        least = math.ceil(costs.spent + costs.reserve + mean)
        raise IsograftError(
            f"{limit:.3g} seconds are too short: getting ready took {costs.spent:.0f} s here, and a step takes {mean:.2g} s; "
            f"give --max-time {least}s or more"
        )
    plan.state("step_seconds", [[size, round(cost, 4)] for size, cost in sorted(costs.step.items())], "measured at each view size")
    plan.state("reserve_seconds", round(costs.reserve, 1), "for what follows the last step")
    return fit, mean
