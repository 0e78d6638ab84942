"""VICReg: views of an image agree, every dimension varies, dimensions do not repeat each other (arXiv:2105.04906)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isograft.ssl.gather import gather
from isograft.ssl.method import Method, MethodOutput, embed_views, keep, require_views
from isograft.ssl.precision import in_float32
from isograft.ssl.projector import projector


class VICRegTerms(NamedTuple):
    """The three terms of the loss, unweighted scalars >= 0."""

    invariance: Tensor
    variance: Tensor
    covariance: Tensor


@in_float32
def vicreg_terms(projections: Sequence[Tensor], eps: float = 1e-4) -> VICRegTerms:
    """Invariance, variance and covariance (arXiv:2105.04906, equations 1 to 5).

    As in the authors' program, whose weights 25 / 25 / 1 everyone uses, the invariance is a mean over dimensions
    too (the paper's equation 5 sums) and the variance is the mean of the views' (the paper's equation 6 sums);
    the covariance is the sum of two views'. With more than two views the invariance is the mean over pairs,
    the other terms use the mean over views in place of the mean of two.

    Args:
        projections: V >= 2 tensors (B, K), B >= 2 over all ranks, the same B on every rank.
        eps: Added to the variance before the square root.
    """
    count = len(projections)
    pairs = [F.mse_loss(first, second) for first, second in combinations(projections, 2)]
    batch = gather(torch.stack(list(projections))).transpose(0, 1).flatten(1, 2)  # (V, all B, K)
    deviation = (batch.var(dim=1) + eps).sqrt()
    variance = F.relu(1.0 - deviation).mean()
    centred = batch - batch.mean(dim=1, keepdim=True)
    covariance = centred.transpose(1, 2) @ centred / (batch.shape[1] - 1)  # (V, K, K)
    off_diagonal = covariance - torch.diag_embed(covariance.diagonal(dim1=1, dim2=2))
    return VICRegTerms(torch.stack(pairs).mean(), variance, 2 * off_diagonal.square().sum() / (count * batch.shape[2]))


class VICRegWeights(NamedTuple):
    """Weights of the three terms."""

    invariance: float
    variance: float
    covariance: float


class VICReg(Method):
    """VICReg with an expander of moderate width, for small batches."""

    name = "vicreg"
    citation = "Bardes A. et al. VICReg: Variance-Invariance-Covariance Regularization. ICLR 2022. arXiv:2105.04906"

    def __init__(
        self,
        backbone: nn.Module,
        features: int,
        width: int = 1024,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
    ) -> None:
        """Add the expander.

        Args:
            backbone: Maps float (B, 3, S, S) to (B, features).
            features: Width of its output.
            width: Width of the expander's three layers.
            invariance: Weight of the invariance term.
            variance: Weight of the variance term.
            covariance: Weight of the covariance term.
        """
        super().__init__(backbone, features)
        self.weights = VICRegWeights(invariance, variance, covariance)
        self.projector = projector([features, width, width, width], last_bias=False)

    def step(self, views: Sequence[Tensor], labels: Tensor | None = None) -> MethodOutput:
        """Weighted sum of the three terms; see `Method.step`."""
        require_views(self, views, 2)
        embeddings = embed_views(self.backbone, views)
        terms = vicreg_terms(list(self.projector(torch.cat(embeddings)).chunk(len(views))))
        loss = sum((weight * term for weight, term in zip(self.weights, terms, strict=True)), start=torch.zeros_like(terms[0]))
        return MethodOutput(loss, keep(embeddings[0]), {name: term.detach() for name, term in terms._asdict().items()})
