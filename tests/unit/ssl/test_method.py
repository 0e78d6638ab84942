"""The protocol: names, options, one backbone pass per size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from isograft.data.augment import POLICIES
from isograft.errors import IsograftError
from isograft.ssl.method import METHODS, Method, build_method, embed_views


class Pool(nn.Module):
    """A layer and a mean over the image; counts its runs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 5, 1)
        self.runs: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.runs.append(tuple(x.shape))
        return self.layer(x).mean(dim=(2, 3))


def test_every_method_of_the_contract_exists_with_its_citation() -> None:
    import isograft.ssl  # noqa: F401

    assert sorted(METHODS) == ["byol", "dino", "mae", "simclr", "supervised", "vicreg"]
    assert all("arXiv:" in method.citation or "doi:" in method.citation for method in METHODS.values())


def test_views_of_one_size_share_a_pass_and_come_back_in_order() -> None:
    network = Pool()
    views = [torch.randn(2, 3, size, size) for size in (8, 4, 8, 4, 4)]
    together = embed_views(network, views)
    assert network.runs == [(4, 3, 8, 8), (6, 3, 4, 4)]
    for view, embedding in zip(views, together, strict=True):
        torch.testing.assert_close(embedding, network(view))


def test_an_unknown_method_or_option_is_refused_with_the_choices() -> None:
    with pytest.raises(IsograftError, match="byol, dino, mae, simclr"):
        build_method("moco", Pool(), 5)
    with pytest.raises(IsograftError, match="temperature, hidden, width, views"):
        build_method("simclr", Pool(), 5, temprature=0.1)


def test_options_reach_the_method() -> None:
    assert build_method("simclr", Pool(), 5, temperature=0.5).temperature == 0.5


@pytest.mark.parametrize("name", ["simclr", "vicreg", "byol"])
def test_two_views_at_full_size_are_the_default(name: str) -> None:
    specs = build_method(name, Pool(), 5).view_specs(16, POLICIES["general"])
    assert [(spec.count, spec.size) for spec in specs] == [(2, 16)]


@pytest.mark.parametrize("name", ["simclr", "vicreg", "byol", "dino", "supervised"])
def test_a_step_under_autocast_trains_and_the_state_round_trips(name: str) -> None:
    torch.manual_seed(0)
    options = {"classes": 2} if name == "supervised" else {}
    method = build_method(name, Pool(), 5, **options)
    views = [torch.randn(4, 3, 8, 8) for _ in range(2)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = method(views, torch.tensor([0, 1, 0, 1]))
    out.loss.backward()
    method.after_step(0.5)
    assert out.loss.dtype == torch.float32 and bool(torch.isfinite(out.loss))
    assert out.embedding.dtype == torch.float32 and out.embedding.shape == (4, 5)
    assert float(method.backbone.layer.weight.grad.abs().sum()) > 0
    other: Method = build_method(name, Pool(), 5, **options)
    other.load_state_dict(method.state_dict())
    for key, value in other.state_dict().items():
        assert torch.equal(value, method.state_dict()[key]), key


def test_the_backbones_weights_are_exported() -> None:
    for name in METHODS:
        if name == "mae":
            continue
        method = build_method(name, Pool(), 5, **({"classes": 2} if name == "supervised" else {}))
        assert set(method.export_backbone().state_dict()) == {"layer.weight", "layer.bias"}


def test_a_subclass_without_a_name_of_its_own_takes_no_place_among_the_methods() -> None:
    shared: type[Method] = type("Shared", (METHODS["simclr"],), {})
    assert shared.name == "simclr" and METHODS["simclr"] is not shared
