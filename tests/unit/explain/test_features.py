"""Filters and feature maps of convolutional networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.unit.explain.conftest import PREPROCESS, Blobs, untrained

from isograft.errors import IsograftError
from isograft.explain.features import feature_maps, feature_sheet, filters, filters_sheet, require_features


@pytest.mark.parametrize(
    ("name", "stages"),
    [("alzubaidi_light", ["stem", "blocks.0", "blocks.1"]), ("test_resnet", ["act1", "layer1", "layer2", "layer3", "layer4"])],
)
def test_every_stage_of_a_network_shows_its_maps(new_blobs: Blobs, name: str, stages: list[str]) -> None:
    network = untrained(name, 0)
    maps = feature_maps(network, PREPROCESS, new_blobs.pixels[0])
    assert list(maps) == stages
    with torch.no_grad():
        last = network.backbone.forward_features(PREPROCESS.normalise(torch.from_numpy(new_blobs.pixels[:1])))[0].numpy()
    np.testing.assert_allclose(maps[stages[-1]], last, rtol=1e-5)
    assert feature_sheet(maps) == feature_sheet(maps) and filters_sheet(network)[:4] == b"\x89PNG"


def test_filters_keep_their_proportions_around_grey() -> None:
    network = untrained("alzubaidi_light", 0)
    weights = network.backbone.stem[0].conv.weight.detach().numpy()
    made = filters(network)
    assert made.shape == (8, 3, 3, 3) and made.min() >= 0 and made.max() <= 1
    for shown, weight in zip(made - 0.5, weights.transpose(0, 2, 3, 1), strict=True):
        np.testing.assert_allclose(shown * 2 * np.abs(weight).max(), weight, atol=1e-6)


def test_a_transformer_has_no_such_features() -> None:
    with pytest.raises(IsograftError, match=r"--features shows .* leave it out"):
        require_features(untrained("test_vit", 0))
