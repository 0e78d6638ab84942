"""The values a plan file may set a decision to; those of options have their bounds in `settings/`."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from isograft.data.policy import ViewPolicy
from isograft.errors import IsograftError

Count = Annotated[int, Field(ge=1, strict=True)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1)]
Knot = tuple[Annotated[int, Field(ge=0, strict=True)], Annotated[float, Field(ge=0, le=1)]]


def _whole(parts: list[tuple[int, float]]) -> list[tuple[int, float]]:
    if not math.isclose(sum(share for _, share in parts), 1.0, abs_tol=1e-6):
        raise ValueError("the shares must sum to 1")
    return parts


def _rising(knots: list[tuple[int, float]]) -> list[tuple[int, float]]:
    steps, shares = zip(*knots, strict=True)
    if knots[0] != (0, 0.0) or shares[-1] != 1.0 or list(steps) != sorted({*steps}) or list(shares) != sorted(shares):
        raise ValueError("it must rise from [0, 0] to [total_steps, 1]")
    return knots


BOUNDS: dict[str, Any] = {
    "total_steps": Count,
    "history_every": Count,
    "monitor_every": Count,
    "warmup": Annotated[float, Field(ge=0, lt=1)],
    "micro_batch": list[tuple[Annotated[int, Field(ge=0, strict=True)], Count]],
    "lr_scale": list[tuple[Annotated[int, Field(ge=0, strict=True)], Share]],
    "pace": Annotated[list[Knot], Field(min_length=2), AfterValidator(_rising)],
    "new_layer_lr": Rate,
    "head_lr": Rate,
    "weight_decay": Annotated[float, Field(ge=0, allow_inf_nan=False)],
    "layer_decay": Share,
    "schedule": Literal["cosine", "constant"],
    "convolutions": Literal["library", "products", "dense"],
    "views_on": Literal["cpu", "device"],
    "parallel": Literal["replicated", "sharded"],
    "optimizer": Literal["adamw", "sgd"],
    "resolution": Annotated[list[tuple[Annotated[int, Field(ge=8, le=2048)], Share]], Field(min_length=1), AfterValidator(_whole)],
    "rotation": Annotated[float, Field(ge=0, le=180)],
    "min_crop": Share,
    "views": ViewPolicy,
}


def check_value(name: str, wanted: Any, origin: str) -> None:
    """Refuse a value that a decision cannot take.

    Args:
        name: The decision.
        wanted: What the plan file sets it to.
        origin: The plan file, for the message.

    Raises:
        IsograftError: The value is out of bounds, or no word that the decision knows.
    """
    kind = name.partition("_fold_")[0]
    if kind not in BOUNDS:
        return
    try:
        TypeAdapter(BOUNDS[kind]).validate_python(wanted)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        place = "".join(f" at {part}" for part in detail["loc"])
        told = detail["msg"].removeprefix("Value error, ")
        raise IsograftError(f"{origin} sets {name} to {wanted!r}, which cannot be{place}: {told[0].lower()}{told[1:]}") from None
