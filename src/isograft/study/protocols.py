"""What a less careful protocol does to the figures: the same arms and budgets under it, less those under the clean one."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from isograft.study.comparison import common_budgets
from isograft.study.folder import StudyFolder
from isograft.study.runs import Runs, join
from isograft.study.statistics import Estimate

REFERENCE = "clean"
MEANING = {
    "clean": "whole groups are tested, and the pool holds no test image and no near-duplicate of one",
    "image-split": "images are split one by one, so that a patient's images stand on both sides",
    "leaky-pool": "the test images stand in the pool, without labels",
    "paper": "images are split one by one, and the test images stand in the pool",
}


@dataclass(frozen=True)
class ProtocolEffect:
    """How much higher an arm's figure is under another protocol.

    Attributes:
        backbone: The backbone.
        task: The task.
        arm: The arm.
        protocol: The other protocol.
        reference: Mean figure under `REFERENCE`, over budgets and repeats.
        figure: Mean figure under the other protocol.
        effect: The second less the first.
    """

    backbone: str
    task: str
    arm: str
    protocol: str
    reference: float
    figure: float
    effect: Estimate


def protocol_effects(folder: StudyFolder, figure: str) -> list[ProtocolEffect]:
    """Compare every protocol with the clean one, arm by arm; groups are those of the clean one, so that patients are resampled in both."""
    found = []
    for backbone, protocol, task in folder.scopes():
        clean = (backbone, REFERENCE, task)
        if protocol == REFERENCE or clean not in folder.scopes():
            continue
        owners = _owners(folder, clean)
        runs = join(Runs.read(folder, clean), Runs.read(folder, (backbone, protocol, task), owners), mark="\0")
        for arm in [name for name in runs.arms if "\0" + name in runs.arms]:
            budgets = common_budgets(runs, (arm, "\0" + arm), figure)
            if not budgets:
                continue
            plain, other = ({(name, budget): 1 / len(budgets) for budget in budgets} for name in (arm, "\0" + arm))
            effect = runs.contrast(other | {cell: -weight for cell, weight in plain.items()}, figure)
            before, after = (runs.contrast(weights, figure).value for weights in (plain, other))
            found.append(ProtocolEffect(backbone, task, arm, protocol, before, after, effect))
    return found


def _owners(folder: StudyFolder, scope: tuple[str, str, str]) -> dict[str, str]:
    """Image id to group, of all images tested under a protocol in any repeat."""
    rows = folder.rows(scope)
    owners: dict[str, str] = {}
    for job in rows.unique("repeat", keep="first", maintain_order=True)["job"]:
        answers = folder.predictions(job).select(pl.col("id", "group").cast(pl.String))
        owners.update(answers.rows())
    return owners
