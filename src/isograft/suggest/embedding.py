"""How a model sees the pool: the embedding of every candidate and, from a classifier, its answer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from isograft import console
from isograft.assess.domain import directions
from isograft.data.address import Address
from isograft.data.remote import io_threads
from isograft.errors import IsograftError
from isograft.inference import classify, read_ahead
from isograft.networks.heads import Classifier, NoHead
from isograft.suggest.pool import Embeddings, Floats

if TYPE_CHECKING:
    from torch import nn

    from isograft.model import Model


def asked_network(model: Model) -> nn.Module:
    """A classifier as it is, a backbone as a classifier of no class, so that both give embeddings."""
    return model.network() if model.classes else Classifier(model.network(), NoHead())


def look(model: Model, network: nn.Module, places: Sequence[Address], threads: int | None, what: str) -> tuple[Embeddings, Floats]:
    """Embed images, and classify them where the model can.

    Args:
        model: The model.
        network: Its `asked_network`.
        places: Where N images lie, all known to be readable.
        threads: Decoding threads; None for one per core.
        what: What the progress bar says.

    Returns:
        float32 (N, D) of length 1, by the first network of an ensemble; calibrated probabilities float64 (N, K), K = 0 for a backbone.

    Raises:
        IsograftError: An image has become unreadable since it was looked at.
    """
    preprocess, temperature = model.preprocess, model.judgement().temperature if model.classes else 1.0
    pictures = read_ahead(places, preprocess, threads or io_threads(list(places), os.cpu_count() or 1))
    embeddings = np.empty((len(places), model.passport.backbone.features), np.float32)
    p = np.zeros((len(places), len(model.classes or ())))
    with console.Progress(len(places), what) as progress:
        for row, (picture, answer) in enumerate(classify(network, preprocess, pictures)):
            if answer is None:
                raise IsograftError(f"{places[row]} cannot be read any more ({picture.reason}); run suggest again")
            embeddings[row] = directions(answer.embeddings[0])
            if model.classes:
                p[row] = answer.probabilities(temperature)
            progress.advance()
    return embeddings, p


def known_embeddings(model: Model) -> Embeddings:
    """What the first network makes of the model's labeled cases: float32 (C, D) of length 1; C is 0 where none are kept."""
    cases = model.cases()
    if cases is None:
        return np.zeros((0, model.passport.backbone.features), np.float32)
    return directions(cases.embeddings[:, 0]).astype(np.float32)
