"""Supervised pretraining on any label column of the pool: its classes, its sources, a coarse diagnosis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from isograft.errors import IsograftError
from isograft.ssl.gather import mean_over_ranks, world_size
from isograft.ssl.method import Method, MethodOutput, embed_views, keep, require_views
from isograft.ssl.precision import in_float32

if TYPE_CHECKING:
    from isograft.data.augment import ViewPolicy
    from isograft.data.loader import ViewSpec

UNLABELED = -1
"""Label of an image that counts for nothing in the loss."""


@in_float32
def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross entropy over the labeled images of a batch, of all ranks; 0 where there is none.

    Args:
        logits: (B, K) float.
        labels: int64 (B,) in [0, K), or -1 for an image without label.
        smoothing: Share of the target spread over all classes, in [0, 1).

    Returns:
        Scalar >= 0.
    """
    total = F.cross_entropy(logits, labels, ignore_index=UNLABELED, label_smoothing=smoothing, reduction="sum")
    counted = mean_over_ranks((labels != UNLABELED).sum().to(total.dtype))
    return total / counted.clamp(min=1 / world_size())


class Supervised(Method):
    """A linear classifier on the backbone, trained together with it."""

    name = "supervised"
    citation = (
        "Alzubaidi L. et al. Novel Transfer Learning Approach for Medical Imaging with Limited Labeled Data. "
        "Cancers 2021, 13(7):1590. doi:10.3390/cancers13071590"
    )

    def __init__(self, backbone: nn.Module, features: int, classes: int = 0, smoothing: float = 0.0) -> None:
        """Add the classifier.

        Args:
            backbone: Maps float (B, 3, S, S) to (B, features).
            features: Width of its output.
            classes: Number of classes, >= 2.
            smoothing: Label smoothing, in [0, 1).

        Raises:
            IsograftError: Fewer than two classes.
        """
        super().__init__(backbone, features)
        if classes < 2:
            raise IsograftError(
                f"method supervised needs at least 2 classes but the label column has {classes}; name another --label-column"
            )
        self.smoothing = smoothing
        self.classifier = nn.Linear(features, classes)

    def view_specs(self, size: int, policy: ViewPolicy) -> list[ViewSpec]:
        """One view at full size."""
        from isograft.data.loader import ViewSpec

        return [ViewSpec(count=1, size=size, policy=policy)]

    def step(self, views: Sequence[Tensor], labels: Tensor | None = None) -> MethodOutput:
        """Cross entropy of every view; see `Method.step`.

        Raises:
            IsograftError: No labels.
        """
        require_views(self, views, 1)
        if labels is None:
            raise IsograftError("method supervised needs labels but the images have none; name the column with --label-column")
        embeddings = embed_views(self.backbone, views)
        losses = []
        for embedding in embeddings:
            logits = self.classifier(embedding)
            losses.append(cross_entropy(logits, labels, self.smoothing))
        loss = sum(losses[1:], start=losses[0]) / len(losses)
        correct = (self.classifier(embeddings[0]).argmax(dim=1) == labels).float().mean().detach()
        return MethodOutput(loss, keep(embeddings[0]), {"accuracy": correct})
