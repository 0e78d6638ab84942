"""SimCLR: an image's views attract each other and repel all other images (arXiv:2002.05709)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isograft.ssl.gather import gather, rank
from isograft.ssl.method import Method, MethodOutput, embed_views, keep, require_views
from isograft.ssl.precision import in_float32
from isograft.ssl.projector import projector

if TYPE_CHECKING:
    from isograft.data.augment import ViewPolicy
    from isograft.data.loader import ViewSpec


@in_float32
def nt_xent(projections: Sequence[Tensor], temperature: float) -> Tensor:
    """Normalised-temperature cross entropy (arXiv:2002.05709, equation 1), for any number of views.

    Every ordered pair of views of one image is a classification: find the partner among all views
    of all other images, on all ranks. The loss is the mean over this rank's pairs. Further views of
    the same image are neither partner nor other, so with more than two views no view repels its own image.

    Args:
        projections: V >= 2 tensors (B, K), float; need not be normalised. The same B on every rank.
        temperature: Divides the cosine similarity, > 0.

    Returns:
        Scalar, >= 0.
    """
    count, images = len(projections), len(projections[0])
    own = F.normalize(torch.stack(list(projections)), dim=-1)  # (V, B, K)
    everyone = gather(own)  # (R, V, B, K)
    logits = own.flatten(0, 1) @ everyone.flatten(0, 2).T / temperature  # (V*B, R*V*B)
    logits = logits.view(count, images, -1, count, images)  # anchor view and image; rank, view and image compared with
    same = torch.zeros(logits.shape[1:], dtype=torch.bool, device=logits.device)
    same[:, rank()] = torch.eye(images, dtype=torch.bool, device=logits.device).unsqueeze(1)
    others = logits.masked_fill(same, -torch.inf).flatten(2).logsumexp(-1)  # (V, B)
    partners = logits[:, :, rank()].diagonal(dim1=1, dim2=3)  # (V, V, B)
    losses = torch.logaddexp(others.unsqueeze(1), partners) - partners
    distinct = ~torch.eye(count, dtype=torch.bool, device=logits.device)
    return losses[distinct].mean()


class SimCLR(Method):
    """SimCLR with defaults for small batches."""

    name = "simclr"
    citation = "Chen T. et al. A Simple Framework for Contrastive Learning of Visual Representations. ICML 2020. arXiv:2002.05709"

    def __init__(
        self, backbone: nn.Module, features: int, temperature: float = 0.2, hidden: int = 512, width: int = 128, views: int = 2
    ) -> None:
        """Add the projection head.

        Args:
            backbone: Maps float (B, 3, S, S) to (B, features).
            features: Width of its output.
            temperature: Divides the cosine similarity, > 0.
            hidden: Hidden width of the projection head.
            width: Output width of the projection head.
            views: Views of each image, >= 2.
        """
        super().__init__(backbone, features)
        self.temperature = temperature
        self.views = views
        self.projector = projector([features, hidden, width])

    def view_specs(self, size: int, policy: ViewPolicy) -> list[ViewSpec]:
        """All views at full size under one policy."""
        from isograft.data.loader import ViewSpec

        return [ViewSpec(count=self.views, size=size, policy=policy)]

    def step(self, views: Sequence[Tensor], labels: Tensor | None = None) -> MethodOutput:
        """NT-Xent over the projections of all views; see `Method.step`."""
        require_views(self, views, 2)
        embeddings = embed_views(self.backbone, views)
        projections = list(self.projector(torch.cat(embeddings)).chunk(len(views)))
        loss = nt_xent(projections, self.temperature)
        return MethodOutput(loss, keep(embeddings[0]))
