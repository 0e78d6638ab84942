"""BYOL: predict what a slow copy of yourself says of another view (arXiv:2006.07733)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isograft.ssl.method import Method, MethodOutput, embed_views, keep, require_views
from isograft.ssl.momentum import follow, momentum_at, teacher_of
from isograft.ssl.precision import in_float32
from isograft.ssl.projector import projector


@in_float32
def regression_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of normalised vectors, 2 - 2 cos (arXiv:2006.07733, equation 2).

    Args:
        predictions: (B, K) float.
        targets: (B, K) float, treated as constant.

    Returns:
        Scalar in [0, 4].
    """
    return 2.0 - 2.0 * F.cosine_similarity(predictions, targets.detach(), dim=-1).mean()


class BYOL(Method):
    """BYOL with narrower heads and a faster teacher, for short runs; the online backbone is kept, as in the paper."""

    name = "byol"
    citation = "Grill J.-B. et al. Bootstrap Your Own Latent. NeurIPS 2020. arXiv:2006.07733"

    def __init__(self, backbone: nn.Module, features: int, hidden: int = 1024, width: int = 256, momentum: float = 0.99) -> None:
        """Add projector, predictor and teacher.

        Args:
            backbone: Maps float (B, 3, S, S) to (B, features).
            features: Width of its output.
            hidden: Hidden width of projector and predictor.
            width: Output width of both.
            momentum: The teacher's momentum at the start, in [0, 1]; it rises to 1 on a half cosine.
        """
        super().__init__(backbone, features)
        self.momentum = momentum
        self.projector = projector([features, hidden, width])
        self.predictor = projector([width, hidden, width])
        self.teacher_backbone = teacher_of(backbone)
        self.teacher_projector = teacher_of(self.projector)

    def step(self, views: Sequence[Tensor], labels: Tensor | None = None) -> MethodOutput:
        """Mean regression loss over ordered pairs of views (the paper sums the two); see `Method.step`."""
        require_views(self, views, 2)
        embeddings = embed_views(self.backbone, views)
        predictions = self.predictor(self.projector(torch.cat(embeddings))).chunk(len(views))
        with torch.no_grad():
            targets = self.teacher_projector(torch.cat(embed_views(self.teacher_backbone, views))).chunk(len(views))
        pairs = [regression_loss(predictions[i], targets[j]) for i, j in permutations(range(len(views)), 2)]
        return MethodOutput(torch.stack(pairs).mean(), keep(embeddings[0]))

    def backbones(self) -> Sequence[nn.Module]:
        """Online network and teacher; see `Method.backbones`."""
        return [self.backbone, self.teacher_backbone]

    def after_step(self, progress: float) -> None:
        """Let the teacher follow; see `Method.after_step`."""
        momentum = momentum_at(progress, self.momentum)
        follow(self.teacher_backbone, self.backbone, momentum)
        follow(self.teacher_projector, self.projector, momentum)
