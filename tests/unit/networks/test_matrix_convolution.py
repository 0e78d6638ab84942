import copy
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

from isograft.networks import matrix_convolution
from isograft.networks.alzubaidi import SameConv2d
from isograft.networks.backbones import build_backbone
from isograft.networks.matrix_convolution import Kernels, MatrixConv2d, SmallMatrixConv2d, use_kernels

CHANNELS = 16


@pytest.fixture(autouse=True, scope="module")
def two_images_are_many() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matrix_convolution, "FEWEST_IMAGES", 2)
        yield


def gradients(layer: nn.Module, maps: torch.Tensor) -> list[torch.Tensor]:
    """Output, then gradients of the input and of every parameter, of an uneven loss."""
    layer.zero_grad()
    seen = maps.clone().requires_grad_()
    output = layer(seen)
    (output * torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)).sum().backward()
    return [output.detach(), seen.grad, *(parameter.grad for parameter in layer.parameters())]  # type: ignore[list-item]


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 25), st.integers(1, 25)),
    st.sampled_from([1, 2, 3, 5, 7]),
    st.integers(1, 3),
    st.integers(0, 3),
    st.booleans(),
    st.sampled_from([1, 3]),
)
def test_products_give_the_output_and_gradients_of_the_library(
    sides: tuple[int, int], kernel: int, stride: int, padding: int, bias: bool, images: int
) -> None:
    if min(sides) + 2 * padding < kernel:
        return
    plain = nn.Conv2d(CHANNELS, 5, kernel, stride, padding, bias=bias).double().to(memory_format=torch.channels_last)
    ours = copy.deepcopy(plain)
    assert use_kernels(ours, "products") == 1
    maps = torch.randn(images, CHANNELS, *sides, dtype=torch.float64)
    for one, other in zip(gradients(plain, maps), gradients(ours, maps), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("side", [1, 2, 3, 9])
@pytest.mark.parametrize("layer", [nn.Conv2d(CHANNELS, 5, 3, padding=1), SameConv2d(CHANNELS, 5, 3, 2)])
def test_the_dense_matrix_takes_many_small_maps_and_leaves_the_others_to_the_bits_of_the_library(layer: nn.Conv2d, side: int) -> None:
    plain = copy.deepcopy(layer).double()
    ours = copy.deepcopy(plain)
    assert use_kernels(ours, "dense") == 1
    for images in (1, 3):
        maps = torch.randn(images, CHANNELS, side, side, dtype=torch.float64)
        for one, other in zip(gradients(plain, maps), gradients(ours, maps), strict=True):
            torch.testing.assert_close(one, other)
            assert (side <= 2 and images == 3) or torch.equal(one, other)


@pytest.mark.parametrize("side", [6, 30])
def test_cutting_a_batch_into_parts_changes_no_gradient(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Conv2d(CHANNELS, 4, 3, padding=1).double()
    use_kernels(layer, "products")
    maps = torch.randn(7, CHANNELS, side, side, dtype=torch.float64)
    whole = gradients(layer, maps)
    monkeypatch.setattr(matrix_convolution, "CACHE_BYTES", 1)
    for one, other in zip(whole, gradients(layer, maps), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("side", [2, 6])
def test_autocast_computes_in_bf16_and_leaves_gradients_in_float32(side: int) -> None:
    plain = nn.Conv2d(CHANNELS, 8, 3, padding=1)
    ours = copy.deepcopy(plain)
    use_kernels(ours, "products")
    maps = torch.randn(4, CHANNELS, side, side)
    with torch.autocast("cpu", torch.bfloat16):
        output = ours(maps)
    output.float().square().mean().backward()
    plain(maps).square().mean().backward()
    assert output.dtype == torch.bfloat16
    assert ours.weight.grad is not None and ours.weight.grad.dtype == torch.float32 and plain.weight.grad is not None
    torch.testing.assert_close(ours.weight.grad, plain.weight.grad, atol=0.02 * float(plain.weight.grad.abs().max()), rtol=0.1)


def test_without_gradients_a_network_answers_with_the_bits_of_the_library() -> None:
    network = build_backbone("test_resnet", {}, 32).eval()
    changed = copy.deepcopy(network)
    assert use_kernels(changed, "products") > 0
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(images), changed(images))


def test_names_of_weights_stay_and_the_library_can_be_had_back() -> None:
    network = build_backbone("test_resnet", {}, 32)
    names, kinds = list(network.state_dict()), [type(module) for module in network.modules()]
    kernels: list[tuple[Kernels, type]] = [("products", MatrixConv2d), ("dense", SmallMatrixConv2d), ("products", MatrixConv2d)]
    for name, kind in kernels:
        changed = use_kernels(network, name)
        assert sum(type(module) is kind for module in network.modules()) == changed > 0
        assert list(network.state_dict()) == names
    assert use_kernels(network, "library") == changed
    assert [type(module) for module in network.modules()] == kinds


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(16, 16, 3, groups=2),
        nn.Conv2d(16, 16, 3, dilation=2),
        nn.Conv2d(16, 16, 3, padding="same"),
        nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(16, 16, (3, 1)),
        nn.Conv2d(16, 16, 3, stride=(1, 2)),
        nn.Conv2d(3, 16, 3),
    ],
)
def test_convolutions_of_another_kind_are_left_to_the_library(layer: nn.Conv2d) -> None:
    assert use_kernels(layer, "products") == 0
    assert type(layer) is nn.Conv2d


@pytest.mark.parametrize(("side", "stride"), [(40, 1), (40, 2), (41, 2), (7, 1), (4, 2)])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_the_convolution_of_the_paper_keeps_its_output_and_gradients(side: int, stride: int, kernel: int) -> None:
    plain = SameConv2d(CHANNELS, 4, kernel, stride).double()
    ours = copy.deepcopy(plain)
    assert use_kernels(ours, "products") == 1
    maps = torch.randn(2, CHANNELS, side, side, dtype=torch.float64)
    for one, other in zip(gradients(plain, maps), gradients(ours, maps), strict=True):
        torch.testing.assert_close(one, other)


def test_the_network_of_the_paper_changes_in_all_but_its_first_convolution() -> None:
    network = build_backbone("alzubaidi_dcnn", {"width": 16}, 32)
    names = list(network.state_dict())
    assert use_kernels(network, "products") == sum(isinstance(module, SameConv2d) for module in network.modules()) - 1
    assert list(network.state_dict()) == names


def test_a_step_repeated_gives_the_same_bits() -> None:
    network = build_backbone("test_resnet", {}, 32).to(memory_format=torch.channels_last).train()
    use_kernels(network, "products")
    images = torch.randn(8, 3, 32, 32)
    found = [gradients(copy.deepcopy(network), images) for _ in range(2)]
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("side", [2, 9])
def test_a_second_derivative_is_refused_rather_than_wrong(side: int) -> None:
    layer = nn.Conv2d(CHANNELS, 4, 3, padding=1)
    use_kernels(layer, "products")
    maps = torch.randn(2, CHANNELS, side, side, requires_grad=True)
    (first,) = torch.autograd.grad(layer(maps).square().sum(), maps, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.square().sum().backward()


@pytest.mark.parametrize("side", [2, 9])
def test_a_backward_pass_within_autocast_keeps_the_precision_of_the_forward_pass(side: int) -> None:
    layer = nn.Conv2d(CHANNELS, 4, 3, padding=1)
    use_kernels(layer, "products")
    maps = torch.randn(2, CHANNELS, side, side)
    outside = gradients(layer, maps)
    layer.zero_grad()
    seen = maps.clone().requires_grad_()
    output = layer(seen)
    loss = (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum()
    with torch.autocast("cpu", torch.bfloat16):
        loss.backward()
    for one, other in zip(outside[1:], [seen.grad, *(parameter.grad for parameter in layer.parameters())], strict=True):
        assert torch.equal(one, other)


def test_autocast_leaves_float64_alone_as_it_does_in_the_library() -> None:
    layer = nn.Conv2d(CHANNELS, 4, 3).double()
    use_kernels(layer, "products")
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(1, CHANNELS, 5, 5, dtype=torch.float64)).dtype == torch.float64


def test_an_image_without_a_batch_is_convolved_by_the_library() -> None:
    plain = nn.Conv2d(CHANNELS, 4, 3, padding=1).double()
    ours = copy.deepcopy(plain)
    use_kernels(ours, "products")
    maps = torch.randn(CHANNELS, 5, 6, dtype=torch.float64)
    for one, other in zip(gradients(plain, maps), gradients(ours, maps), strict=True):
        torch.testing.assert_close(one, other)


def test_the_convolution_of_the_paper_may_be_padded_differently_along_its_axes() -> None:
    plain = SameConv2d(CHANNELS, 4, 7, 4).double()
    ours = copy.deepcopy(plain)
    assert use_kernels(ours, "products") == 1
    maps = torch.randn(2, CHANNELS, 5, 7, dtype=torch.float64)  # three rows on either side, and two columns
    for one, other in zip(gradients(plain, maps), gradients(ours, maps), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("side", [2, 9])
def test_gradients_lie_in_memory_as_their_weights_do(layout: torch.memory_format, side: int) -> None:
    layer = nn.Conv2d(CHANNELS, 8, 3, padding=1).to(memory_format=layout)
    use_kernels(layer, "products")
    gradients(layer, torch.randn(2, CHANNELS, side, side).contiguous(memory_format=layout))
    assert layer.weight.grad is not None and layer.weight.grad.is_contiguous(memory_format=layout)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.sampled_from([1, 3, 5, 7]), st.integers(1, 2), st.integers(0, 99))
def test_in_bf16_gradients_are_as_near_the_exact_ones_as_eight_bits_allow(side: int, kernel: int, stride: int, seed: int) -> None:
    torch.manual_seed(seed)
    exact = nn.Conv2d(CHANNELS, 6, kernel, stride, kernel // 2).to(torch.bfloat16).double()  # weights and maps that bf16 holds
    ours = copy.deepcopy(exact).to(torch.bfloat16)
    use_kernels(ours, "products")
    maps = torch.randn(5, CHANNELS, side, side).to(torch.bfloat16)
    wanted = _through(exact, maps.double())
    for one, other in zip(wanted, _through(ours, maps), strict=True):
        assert float((one - other.double()).norm()) <= 0.02 * float(one.norm())


@pytest.mark.parametrize("kernels", ["products", "dense"])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("side", [2, 9])
def test_a_pass_that_is_computed_once_more_on_the_way_back_gives_the_same_bits(kernels: Kernels, autocast: bool, side: int) -> None:
    layer = nn.Conv2d(CHANNELS, 8, 3, padding=1)
    use_kernels(layer, kernels)
    maps, found = torch.randn(4, CHANNELS, side, side, requires_grad=True), []
    for again in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = checkpoint(layer, maps, use_reentrant=False) if again else layer(maps)
        found.append(torch.autograd.grad(output.float().square().sum(), [maps, *layer.parameters()]))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def _through(layer: nn.Module, maps: torch.Tensor) -> list[torch.Tensor]:
    """Gradients of the input and of every parameter, of a loss whose own gradient is the same in every type."""
    seen = maps.clone().requires_grad_()
    output = layer(seen)
    output.backward((torch.arange(output.numel()) % 7 - 2).view_as(output).to(output.dtype))
    return [seen.grad, *(parameter.grad for parameter in layer.parameters())]  # type: ignore[list-item]
