"""What the network sees: the size of its input and how views of one image may differ."""

from __future__ import annotations

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


def plan_views(plan: Plan, asked: str, measured: Fingerprint) -> ViewPolicy:
    """Decide how views of one image may differ: a named domain, or what the symmetry probes allow."""
    if asked != "auto":
        plan.decide("domain", asked, "as asked")
        return _keep(plan, POLICIES[asked])
    name = plan.decide(
        "domain", "grey" if measured.grey else "general", "the images hold no colour" if measured.grey else "the images hold colour"
    )
    turn = plan.decide(
        "rotation",
        180.0 if measured.any_rotation else 10.0,
        f"a linear probe tells four turns apart with accuracy {measured.rotation_accuracy:.2f} (chance 0.25)",
    )
    mirror = plan.decide(
        "mirror",
        measured.any_mirror,
        f"a linear probe tells mirror images apart with accuracy {measured.mirror_accuracy:.2f} (chance 0.50)",
    )
    symmetry = {"rotation": turn, "flip_horizontal": 0.5 if mirror else 0.0, "flip_vertical": 0.5 if mirror and turn == 180.0 else 0.0}
    return _keep(plan, POLICIES[name].model_copy(update=symmetry))


def planned_policy(plan: Plan) -> ViewPolicy:
    """Return the view policy a plan holds."""
    return ViewPolicy.model_validate(plan["views"])


def _keep(plan: Plan, policy: ViewPolicy) -> ViewPolicy:
    plan.decide("views", policy.model_dump(mode="json", exclude_defaults=True), "ranges of the random variations")
    return policy
