from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import create_conv2d
from torch import nn

from isograft.errors import IsograftError
from isograft.networks.backbones import build_backbone
from isograft.plan import Plan
from isograft.train.precision import choose_precision, decide_precision, unmet_taps

CPU = torch.device("cpu")


@given(st.integers(1, 9), st.sampled_from([1, 3, 5, 7]), st.integers(1, 4), st.integers(1, 2))
def test_a_tap_counts_as_unmet_exactly_when_its_gradient_is_always_zero(size: int, kernel: int, stride: int, dilation: int) -> None:
    layer = nn.Conv2d(3, 2, kernel, stride, padding=dilation * (kernel // 2), dilation=dilation)
    layer(torch.rand(1, 3, size, size) + 1).sum().backward()
    assert layer.weight.grad is not None
    assert (unmet_taps(layer, size) is not None) == bool((layer.weight.grad == 0).any())


@given(st.integers(1, 9), st.sampled_from([1, 3, 5]), st.integers(1, 2))
def test_padding_of_a_layer_s_own_making_counts_as_it_is_done(size: int, kernel: int, stride: int) -> None:
    layer = create_conv2d(3, 2, kernel, stride=stride, padding="same")
    layer(torch.rand(1, 3, size, size) + 1).sum().backward()
    assert (unmet_taps(layer, size) is not None) == bool((layer.weight.grad == 0).any())


@pytest.mark.parametrize(("side", "found"), [(64, False), (16, True)])
def test_a_small_residual_network_has_unmet_taps_only_where_its_last_maps_are_single_pixels(side: int, found: bool) -> None:
    network = build_backbone("resnet18", {}, 64)
    assert (unmet_taps(network, side) is not None) == found


def test_looking_for_unmet_taps_leaves_the_network_as_it_was() -> None:
    network = build_backbone("test_resnet", {}, 32).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    unmet_taps(network, 16)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules())


@pytest.fixture
def bf16_machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Make this a machine with bf16 instructions that is so many times as fast with them."""

    def make(gain: float) -> None:
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
        monkeypatch.setattr("isograft.train.precision._step_seconds", lambda network, images, autocast: 1.0 / gain if autocast else 1.0)

    return make


@pytest.mark.parametrize(("gain", "chosen"), [(1.6, "bf16"), (1.01, "fp32"), (0.2, "fp32")])
def test_the_faster_arithmetic_is_chosen_when_the_gain_is_clear(gain: float, chosen: str, bf16_machine: Callable[[float], None]) -> None:
    bf16_machine(gain)
    assert choose_precision(build_backbone("test_resnet", {}, 64), 64, CPU)[0] == chosen


def test_small_views_keep_a_network_in_fp32_however_fast_bf16_is(bf16_machine: Callable[[float], None]) -> None:
    bf16_machine(3.0)
    precision, reason = choose_precision(build_backbone("test_resnet", {}, 64), 64, CPU, smallest=16)
    assert precision == "fp32"
    assert "bf16 gives wrong gradients" in reason


def test_bf16_that_would_give_wrong_gradients_is_refused_even_when_asked_for() -> None:
    with pytest.raises(IsograftError, match=r"bf16 gives wrong gradients here: the feature map before .* at 16 px; use --precision fp32"):
        decide_precision(Plan(), "bf16", build_backbone("test_resnet", {}, 64), 64, 16, CPU)
