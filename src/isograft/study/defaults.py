"""What all arms of a study must share and the study file leaves open: the size of the input and the arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from isograft.study.spec import StudySpec

if TYPE_CHECKING:
    from isograft.study.data import StudyData


def image_size_of(spec: StudySpec, data: StudyData) -> int:
    """Side of the network's input in pixels: as asked, or by the rule of the trainings, for the smallest task."""
    from isograft.plan import Plan
    from isograft.train.engine import training_device
    from isograft.train.views import plan_image_size

    sides = [manifest.frame.select("width", "height").to_numpy().min(axis=1) for manifest in data.tasks.values()]
    return plan_image_size(Plan(), spec.image_size, int(min(np.median(side) for side in sides)), training_device(), None)


def precision_of(backbone: str, spec: StudySpec, image_size: int) -> str:
    """Arithmetic of a backbone in every training of the study: measured once, since arms that differ in it could not be compared."""
    from isograft.networks.backbones import build_backbone, parse_arguments
    from isograft.train.engine import training_device
    from isograft.train.precision import choose_precision
    from isograft.train.pretrain_plan import small_view

    smallest = image_size // 2 if spec.pretrain.method == "dino" else small_view(image_size)
    network = build_backbone(backbone, parse_arguments(spec.backbone_args), image_size)
    return choose_precision(network, image_size, training_device(), min(smallest, image_size))[0]
