"""What the network sees: the size of its input and how views of one image may differ."""

from __future__ import annotations

from typing import TypedDict

import torch

from isograft.data.augment import POLICIES, ViewPolicy
from isograft.data.fingerprint import Fingerprint
from isograft.plan import Plan


def plan_image_size(plan: Plan, asked: int | str, short_side: int, device: torch.device, inherited: int | None) -> int:
    """Decide the side of the network's input in pixels."""
    if inherited is not None:
        return int(plan.choose("image_size", asked, inherited, "the size the starting model was trained at"))
    ceiling = 224 if device.type == "cuda" else 64
    reason = f"a {'GPU' if device.type == 'cuda' else 'CPU'} trains at {ceiling} px in reasonable time"
    automatic = max(64, min(ceiling, 32 * round(short_side / 32)))
    if automatic < ceiling:
        reason = f"the images' median short side is {short_side} px"
    return int(plan.choose("image_size", asked, automatic, reason))


def plan_views(plan: Plan, asked: str, measured: Fingerprint) -> None:
    """Decide how views of one image may differ: a named domain, or what the symmetry probes allow."""
    if asked != "auto":
        plan.revise("domain", asked, "as asked")
        _keep(plan, POLICIES[asked])
        return
    name = plan.decide(
        "domain", "grey" if measured.grey else "general", "the images hold no colour" if measured.grey else "the images hold colour"
    )
    turn = plan.decide(
        "rotation",
        180.0 if measured.any_rotation else 10.0,
        _probed(measured, "four turns", measured.rotation_accuracy, 0.25),
    )
    mirror = plan.decide(
        "mirror",
        measured.any_mirror,
        _probed(measured, "mirror images", measured.mirror_accuracy, 0.5),
    )
    symmetry = {"rotation": turn, "flip_horizontal": 0.5 if mirror else 0.0, "flip_vertical": 0.5 if mirror and turn == 180.0 else 0.0}
    _keep(plan, POLICIES[name].model_copy(update=symmetry))


def plan_rendering(plan: Plan, device: torch.device) -> None:
    """Decide where views are rendered: on the CPU's cores beside the step, or on the device of the step."""
    gpu = device.type == "cuda"
    plan.decide("views_on", "device" if gpu else "cpu", "in a few calls per batch; the cores only read" if gpu else "the device is the CPU")


class RenderingOptions(TypedDict):
    """Arguments of a `ViewLoader`."""

    on_device: bool
    pinned: bool


def rendering_options(plan: Plan) -> RenderingOptions:
    """What a `ViewLoader` must know of where its batches go; plans of earlier versions say nothing and mean the CPU."""
    return {"on_device": plan.get("views_on", "cpu") == "device", "pinned": torch.cuda.is_available()}


def planned_policy(plan: Plan) -> ViewPolicy:
    """Return the view policy a plan holds."""
    return ViewPolicy.model_validate(plan["views"])


def _probed(measured: Fingerprint, what: str, accuracy: float | None, chance: float) -> str:
    if accuracy is None:
        return f"too few images to measure ({measured.images})"
    return f"a linear probe tells {what} apart with accuracy {accuracy:.2f} (chance {chance:.2f})"


def _keep(plan: Plan, policy: ViewPolicy) -> None:
    plan.decide("views", policy.model_dump(mode="json", exclude_defaults=True), "ranges of the random variations")
