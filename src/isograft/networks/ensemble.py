"""Several classifiers of one kind that answer together."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from isograft.networks.heads import Classifier


class Ensemble(nn.Module):
    """The mean of its members' probabilities (Lakshminarayanan et al. 2017, arXiv:1612.01474).

    Attributes:
        members: M classifiers of the same classes.
    """

    def __init__(self, members: Iterable[Classifier]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised float images (B, 3, S, S) to the logarithm of the mean probabilities (B, K), which serve as logits."""
        logits, _ = self.outputs(images)
        return torch.logsumexp(logits.log_softmax(dim=2), dim=1) - torch.tensor(float(len(self.members))).log()

    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised float images (B, 3, S, S) to the members' logits (B, M, K) and embeddings (B, M, D)."""
        answers: list[tuple[Tensor, Tensor]] = [member.outputs(images) for member in self.members]  # type: ignore[operator]
        return torch.cat([logits for logits, _ in answers], dim=1), torch.cat([features for _, features in answers], dim=1)
