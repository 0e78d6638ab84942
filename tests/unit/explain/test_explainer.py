"""Heatmaps follow the network and the image: they lie where the evidence is, and change when the weights are drawn anew."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from tests.unit.explain.conftest import PREPROCESS, Blobs, blobs, trained, untrained
from torch import nn

from isograft.errors import IsograftError
from isograft.explain.explainer import Explainer, heatmaps
from isograft.explain.heatmap import METHODS

WAYS = [
    ("alzubaidi_light", "grad-cam"),
    ("test_vit", "rollout"),
    *((name, method) for name in ("alzubaidi_light", "test_vit") for method in ("occlusion", "integrated-gradients")),
]


@cache
def maps(name: str, method: str, seed: int | None = None) -> list[np.ndarray]:
    """The maps of 6 new images for their true classes, by a trained network, or one with random weights of this seed."""
    network, images = trained(name) if seed is None else untrained(name, seed), blobs(6, seed=2)
    explainer = Explainer(network, PREPROCESS, method)
    return [explainer.explain(pixels, int(label)).values for pixels, label in zip(images.pixels, images.labels, strict=True)]


@pytest.mark.parametrize(("name", "method"), WAYS)
def test_what_speaks_for_the_class_lies_on_the_blob_that_decides_it(new_blobs: Blobs, name: str, method: str) -> None:
    network = trained(name)
    with torch.no_grad():
        answers = network(PREPROCESS.normalise(torch.from_numpy(new_blobs.pixels))).argmax(1).numpy()
    assert (answers == new_blobs.labels).mean() > 0.9
    positive = [np.clip(values, 0, None) for values in maps(name, method)]
    shares = [one[inside].sum() / one.sum() for one, inside in zip(positive, new_blobs.inside, strict=True)]
    assert np.mean(shares) > 2 * new_blobs.inside.mean()


@pytest.mark.parametrize(("name", "method"), WAYS)
def test_random_weights_give_another_map(name: str, method: str) -> None:
    """The check of Adebayo et al., NeurIPS 2018: a map that stays when the weights are drawn anew shows the image, not the network."""
    pairs = [
        (one, other) for one, other in zip(maps(name, method), maps(name, method, seed=99), strict=True) if np.ptp(one) and np.ptp(other)
    ]
    assert len(pairs) >= 4
    assert np.mean([spearmanr(one.ravel(), other.ravel()).statistic for one, other in pairs]) < 0.5


@pytest.mark.parametrize(("name", "method"), WAYS)
def test_a_map_is_float32_over_the_square_and_the_same_bytes_each_time(new_blobs: Blobs, name: str, method: str) -> None:
    again = heatmaps(trained(name), PREPROCESS, new_blobs.pixels[0], int(new_blobs.labels[0]), method)
    assert again.values.dtype == np.float32 and again.values.shape == (32, 32)
    assert again.values.tobytes() == maps(name, method)[0].tobytes()
    assert METHODS[method].signed or again.values.min() >= 0


@pytest.mark.parametrize(("name", "method"), [way for way in WAYS if METHODS[way[1]].signed])
def test_of_two_classes_what_speaks_for_one_speaks_against_the_other(new_blobs: Blobs, name: str, method: str) -> None:
    explainer = Explainer(trained(name), PREPROCESS, method)
    red, blue = (explainer.explain(new_blobs.pixels[0], target) for target in (0, 1))
    np.testing.assert_allclose(red.values, -blue.values, atol=1e-4 * np.abs(red.values).max())
    assert red.log_odds == pytest.approx(-blue.log_odds, abs=1e-4)


@pytest.mark.parametrize(("name", "method"), [("alzubaidi_light", "grad-cam"), ("test_resnet", "grad-cam"), ("test_vit", "rollout")])
def test_auto_chooses_by_the_network_and_says_where_it_looks(name: str, method: str) -> None:
    explainer = Explainer(untrained(name, 0), PREPROCESS)
    assert explainer.method == method
    assert {"alzubaidi_light": "8 x 8 cells", "test_resnet": "layer2 of 4 x 4 cells", "test_vit": "4 x 4 patches"}[name] in explainer.reason


def test_a_network_without_maps_or_attention_is_occluded_and_another_method_is_refused() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    explainer = Explainer(plain, PREPROCESS)
    assert explainer.method == "occlusion" and "neither feature maps" in explainer.reason
    for method in ("grad-cam", "rollout"):
        with pytest.raises(IsograftError, match=rf"--method {method} needs .*use --method auto or occlusion"):
            Explainer(plain, PREPROCESS, method)
    with pytest.raises(IsograftError, match="no method 'lime'"):
        Explainer(plain, PREPROCESS, "lime")


def test_several_networks_are_explained_by_the_mean_of_their_maps(new_blobs: Blobs) -> None:
    class Ensemble(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.members = nn.ModuleList([trained("alzubaidi_light"), untrained("test_resnet", 5)])

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.stack([member(images) for member in self.members]).mean(0)

    pixels = new_blobs.pixels[0]
    explainer = Explainer(Ensemble().eval(), PREPROCESS)
    assert explainer.method == "grad-cam" and "mean of 2 networks" in explainer.reason
    single = [Explainer(member, PREPROCESS).explain(pixels, 1).values for member in Ensemble().members]
    np.testing.assert_allclose(explainer.explain(pixels, 1).values, np.mean(single, axis=0), rtol=1e-5, atol=1e-7)


def test_explaining_leaves_the_network_as_it_was(new_blobs: Blobs) -> None:
    network = trained("test_vit")
    before = SimpleNamespace(
        hooks=[len(one._forward_hooks) for one in network.modules()],
        fused=[one.fused_attn for one in network.modules() if hasattr(one, "fused_attn")],
        answer=network(PREPROCESS.normalise(torch.from_numpy(new_blobs.pixels[:1]))),
    )
    for method in ("rollout", "integrated-gradients", "occlusion"):
        Explainer(network, PREPROCESS, method).explain(new_blobs.pixels[0], 0)
    assert [len(one._forward_hooks) for one in network.modules()] == before.hooks
    assert [one.fused_attn for one in network.modules() if hasattr(one, "fused_attn")] == before.fused
    assert torch.equal(network(PREPROCESS.normalise(torch.from_numpy(new_blobs.pixels[:1]))), before.answer)
