"""How a fine-tuning run is laid out: strategy, steps and rates by the number of labels, each with its reason."""

from __future__ import annotations

from isograft.data.augment import ViewPolicy
from isograft.errors import IsograftError
from isograft.plan import Plan
from isograft.settings import FinetuneSettings
from isograft.train.shares import even, plan_processes
from isograft.train.statistics import statistics_reason

LEAST_STEPS = 60
EPOCHS = 40
PAPER_EPOCHS = 100
GENTLE_CROP = 0.5


def plan_finetuning(
    plan: Plan, settings: FinetuneSettings, *, train_images: int, validated: bool, started: bool, kept_statistics: bool
) -> None:
    """Decide everything but the split.

    Args:
        plan: Receives the decisions.
        settings: What was asked.
        train_images: Training images.
        validated: Whether a validation split exists.
        started: Whether the backbone begins with weights.
        kept_statistics: Whether all its batch statistics came with them.
    """
    strategy = _strategy(plan, settings, started=started)
    if strategy == "paper":
        _plan_paper(plan, settings, started=started, train_images=train_images)
    elif strategy != "probe":
        _plan_craft(plan, settings, train_images=train_images, started=started)
        plan.decide("frozen_bn", kept_statistics, statistics_reason(kept_statistics))
    if strategy != "probe":
        rule = "the best on the validation split" if validated and strategy != "paper" else "the last"
        plan.state("weights_kept", rule, "validation decides" if validated and strategy != "paper" else "a fixed schedule")


def usual_epochs(strategy: str, train_images: int) -> int:
    """Passes over so many training images where nothing else is asked."""
    return PAPER_EPOCHS if strategy == "paper" else _epochs(train_images // _batch(train_images))


def _batch(train_images: int) -> int:
    return train_images // -(-train_images // 32)


def _epochs(steps_per_epoch: int) -> int:
    return max(EPOCHS, -(-LEAST_STEPS // steps_per_epoch))


def _strategy(plan: Plan, settings: FinetuneSettings, *, started: bool) -> str:
    if not started:
        return str(plan.choose("strategy", settings.strategy, "full", "no layer is trained yet"))
    return str(
        plan.choose(
            "strategy",
            settings.strategy,
            "probe-then-full",
            "the head first, so that its first random steps do not spoil the features (arXiv:2202.10054)",
        )
    )


def _plan_craft(plan: Plan, settings: FinetuneSettings, *, train_images: int, started: bool) -> None:
    batch = plan.choose("batch_size", settings.batch_size, even(_batch(train_images)), "32 at most; a pass leaves out as few as it can")
    _check_batch(plan, train_images, settings)
    per_epoch = max(1, train_images // batch)
    plan.choose("epochs", settings.epochs, _epochs(per_epoch), f"{EPOCHS} passes, and {LEAST_STEPS} steps at least, from any start")
    plan.state("steps_per_epoch", per_epoch, f"{train_images} images in batches of {batch}")
    _decide_steps(plan, per_epoch, f"{per_epoch} steps per pass")
    plan.decide("warmup", 0.1, "a tenth of the run")
    plan.decide("optimizer", "adamw", "robust to the scale of the features")
    plan.choose("lr", settings.lr, 1e-3, "AdamW's usual peak")
    plan.decide(
        "head_lr", plan["lr"], "the head begins at the probe's solution" if plan["strategy"] == "probe-then-full" else "as the backbone"
    )
    plan.decide("layer_decay", 0.75 if started else 1.0, "early layers move least" if started else "no layer is trained yet")
    plan.decide("weight_decay", 0.05, "AdamW's usual value")
    plan.decide("schedule", "cosine", "ends at zero")
    plan.decide("class_weights", True, "every class counts the same")
    plan.decide("min_crop", GENTLE_CROP, "views keep at least half of the image, so that the finding stays in view")


def _plan_paper(plan: Plan, settings: FinetuneSettings, *, started: bool, train_images: int) -> None:
    """The released scripts' settings (see docs/explanation/method.md)."""
    why = "the paper's scripts"
    batch = plan.choose("batch_size", settings.batch_size, even(min(8 if started else 64, train_images)), why)
    _check_batch(plan, train_images, settings)
    plan.choose("epochs", settings.epochs, PAPER_EPOCHS, why)
    per_epoch = plan.state("steps_per_epoch", max(1, train_images // batch), f"{train_images} images in batches of {batch}")
    _decide_steps(plan, per_epoch, why)
    plan.decide("warmup", 0.0, why)
    plan.decide("optimizer", "sgd", why)
    plan.choose("lr", settings.lr, 1e-3, why)
    plan.decide("head_lr", (10 if started else 1) * plan["lr"], why)
    plan.decide("layer_decay", 1.0, why)
    plan.decide("weight_decay", 1e-4, why)
    plan.decide("schedule", "constant", why)
    plan.decide("frozen_bn", False, why)
    plan.decide("class_weights", False, why)
    plan.decide("min_crop", 1.0, why)


def _decide_steps(plan: Plan, per_epoch: int, reason: str) -> None:
    """Decide the number of steps; the passes follow when a plan file sets another."""
    total = plan.decide("total_steps", plan["epochs"] * per_epoch, reason)
    if total != plan["epochs"] * per_epoch:
        plan.revise("epochs", round(total / per_epoch, 2), f"{total} steps of {per_epoch} per pass")


def _check_batch(plan: Plan, train_images: int, settings: FinetuneSettings) -> None:
    plan_processes(plan)
    batch = plan["batch_size"]
    if batch > train_images:
        raise IsograftError(
            f"--batch-size {batch} is more than the {train_images} training images of {settings.data}; use at most {train_images}"
        )


def training_policy(plan: Plan, policy: ViewPolicy) -> ViewPolicy:
    """Narrow a domain's policy to what fine-tuning wants: the paper's runs see the images as they are."""
    if plan["strategy"] == "paper":
        return ViewPolicy(rotation=0.0)
    return policy.model_copy(update={"crop": (plan["min_crop"], 1.0)})
