"""What a less careful protocol does to the figures: the same arms and budgets under it, less those under the clean one."""

from __future__ import annotations

from dataclasses import dataclass

from isograft.study.comparison import common_budgets
from isograft.study.folder import StudyFolder
from isograft.study.runs import Runs, join
from isograft.study.statistics import Estimate

REFERENCE = "clean"
MEANING = {
    "clean": "whole groups are tested, and the pool holds no test image and no near-duplicate of one",
    "image-split": "images are split one by one, so that a patient's images stand on both sides",
    "leaky-pool": "the images of the task, those tested among them, stand in the pool, without labels",
    "paper": "images are split one by one, and the images of the task stand in the pool, without labels",
}


@dataclass(frozen=True)
class ProtocolEffect:
    """How much higher an arm's figure is under another protocol.

    Attributes:
        backbone: The backbone.
        task: The task.
        arm: The arm.
        protocol: The other protocol.
        labels_per_class: The label budget, 0 for all labels; None for the mean over the budgets.
        reference: Mean figure under `REFERENCE`.
        figure: Mean figure under the other protocol.
        effect: The second less the first.
    """

    backbone: str
    task: str
    arm: str
    protocol: str
    labels_per_class: int | None
    reference: float
    figure: float
    effect: Estimate


def protocol_effects(folder: StudyFolder, figure: str) -> list[ProtocolEffect]:
    """Compare every protocol with the clean one, arm by arm; the groups of the answers are patients in both, however images were split."""
    found = []
    for backbone, protocol, task in folder.scopes():
        clean = (backbone, REFERENCE, task)
        if protocol == REFERENCE or clean not in folder.scopes():
            continue
        runs = join(Runs.read(folder, clean), Runs.read(folder, (backbone, protocol, task)), mark="\0")
        for arm in [name for name in runs.arms if "\0" + name in runs.arms]:
            budgets = common_budgets(runs, (arm, "\0" + arm), figure)
            singly: list[tuple[int | None, list[int]]] = [(one, [one]) for one in budgets] if len(budgets) > 1 else []
            for budget, taken in [(None, budgets), *singly] if budgets else []:
                plain, other = ({(name, one): 1 / len(taken) for one in taken} for name in (arm, "\0" + arm))
                effect = runs.contrast(other | {cell: -weight for cell, weight in plain.items()}, figure)
                before, after = (runs.contrast(weights, figure).value for weights in (plain, other))
                found.append(ProtocolEffect(backbone, task, arm, protocol, budget, before, after, effect))
    return found
