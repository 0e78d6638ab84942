"""Is the network learning something? Rank and spread of its embedding, a k-NN probe, and signs of collapse."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

MIN_STD = 0.02
MIN_RANK = 2.0
"""Bounds of `collapsed`; untrained networks on real images of one kind showed a spread from 0.18 and a rank from 17."""


class ProbeScore(NamedTuple):
    """Scores of the k-NN probe, each in [0, 1]."""

    macro_f1: float
    balanced_accuracy: float


@torch.no_grad()
def effective_rank(embedding: Tensor, centre: bool = True) -> float:
    """The number of dimensions an embedding really uses: exp of the entropy of its normalised singular values.

    Roy O., Vetterli M. The effective rank: a measure of effective dimensionality. EUSIPCO 2007, definition 1.

    Args:
        embedding: (N, D) float.
        centre: Subtract the mean first; without it the mean, common to all images, counts as a dimension and outweighs the others.

    Returns:
        In [1, min(N, D)]; 0 where all rows are equal, NaN where a value is not finite.
    """
    matrix = embedding.detach().double().cpu()
    if not bool(torch.isfinite(matrix).all()):
        return math.nan
    if centre:
        matrix = matrix - matrix.mean(dim=0)
    values = torch.linalg.svdvals(matrix)
    if float(values.sum()) == 0.0:
        return 0.0
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp())


@torch.no_grad()
def embedding_std(embedding: Tensor) -> float:
    """Spread of the directions of an embedding: standard deviation of its rows of length 1, times sqrt(D).

    Chen X., He K. Exploring Simple Siamese Representation Learning. arXiv:2011.10566, section 4.1 (there without the factor).

    Args:
        embedding: (N, D) float, N >= 2.

    Returns:
        In [0, about 1]: 0 where all rows point the same way, 1 where they point everywhere alike. NaN where a value is not finite.
    """
    rows = F.normalize(embedding.detach().double(), dim=1)
    return float(rows.std(dim=0).mean()) * math.sqrt(embedding.shape[1])


@torch.no_grad()
def knn_predict(train_x: Tensor, train_y: Tensor, test_x: Tensor, k: int = 20, temperature: float = 0.07) -> Tensor:
    """Classify by the k nearest training rows, voting with weight exp(cosine / temperature).

    Wu Z. et al. Unsupervised Feature Learning via Non-Parametric Instance Discrimination. arXiv:1805.01978, section 3.4.

    Args:
        train_x: (N, D) float.
        train_y: int64 (N,), >= 0.
        test_x: (M, D) float.
        k: Neighbours that vote; at most N.
        temperature: > 0.

    Returns:
        int64 (M,); the lowest class wins a tie.
    """
    train, test = F.normalize(train_x.float(), dim=1), F.normalize(test_x.float(), dim=1)
    classes = int(train_y.max()) + 1
    predictions = []
    for part in torch.split(test, 1024):
        similarity, places = (part @ train.T).topk(min(k, len(train)), dim=1)
        # Subtracting the best similarity scales all of a row's votes alike and keeps the exponential finite.
        weights = ((similarity - similarity[:, :1]) / temperature).exp()
        votes = torch.zeros(len(part), classes, device=weights.device).scatter_add_(1, train_y[places], weights)
        predictions.append(votes.argmax(dim=1))
    return torch.cat(predictions)


def knn_probe(train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor, k: int = 20, temperature: float = 0.07) -> ProbeScore:
    """Score frozen features with the k-NN classifier of `knn_predict`.

    Args:
        train_x: (N, D) float.
        train_y: int64 (N,), >= 0.
        test_x: (M, D) float, of other patients than `train_x`.
        test_y: int64 (M,), >= 0.
        k: Neighbours that vote; at most N.
        temperature: > 0.

    Returns:
        Macro F1 (over classes true or predicted) and balanced accuracy (over classes true).
    """
    predicted = knn_predict(train_x, train_y, test_x, k, temperature)
    classes = int(torch.cat([predicted, test_y]).max()) + 1
    confusion = torch.bincount(test_y * classes + predicted, minlength=classes**2).view(classes, classes).double()
    hits, true, said = confusion.diagonal(), confusion.sum(dim=1), confusion.sum(dim=0)
    f1 = (2 * hits / (true + said))[(true + said) > 0]
    recall = (hits / true)[true > 0]
    return ProbeScore(float(f1.mean()), float(recall.mean()))


def collapsed(std: float, rank: float, dim: int) -> str | None:
    """Say why an embedding has collapsed, if it has.

    Args:
        std: From `embedding_std`.
        rank: From `effective_rank`, of some hundred images.
        dim: Width of the embedding.

    Returns:
        One clause for an error message, or None. The bounds are far below what an untrained network shows, so that a
        healthy start is never stopped.
    """
    if not (math.isfinite(std) and math.isfinite(rank)):
        return "the embedding holds values that are not numbers"
    if std < MIN_STD:
        return f"all images get almost the same embedding (spread {std:.2g}, where 1 is full and below {MIN_STD:g} is collapsed)"
    if dim >= MIN_RANK * 4 and rank < MIN_RANK:
        return f"the embedding uses {rank:.1f} of its {dim} dimensions (fewer than {MIN_RANK:g} is collapsed)"
    return None
