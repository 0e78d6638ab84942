"""The paper's network has the paper's table, for any input size."""

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import isograft.networks  # noqa: F401
from isograft.networks.alzubaidi import SameConv2d, same_padding


def parameters(network, *kinds):
    modules = [module for module in network.modules() if isinstance(module, kinds)] if kinds else [network]
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def build(name="alzubaidi_dcnn", **arguments):
    with torch.device("meta"):
        return timm.create_model(name, **arguments)


@pytest.mark.parametrize(("classes", "total"), [(2, 73_588_978), (4, 73_591_380)])
def test_parameter_counts_are_those_of_the_paper(classes, total):
    network = build(num_classes=classes, width=32)
    assert parameters(network) == total
    assert parameters(network, nn.Conv2d) == 71_571_168
    assert parameters(network, nn.BatchNorm2d) == 17_408


def test_it_has_32_convolutions_38_batch_norms_and_2_fully_connected_layers():
    network = build(num_classes=2)
    count = {kind: sum(isinstance(module, kind) for module in network.modules()) for kind in (nn.Conv2d, nn.BatchNorm2d, nn.Linear)}
    assert count == {nn.Conv2d: 32, nn.BatchNorm2d: 38, nn.Linear: 2}


def test_channels_and_sizes_of_every_stage_are_those_of_the_table():
    network = timm.create_model("alzubaidi_dcnn", width=4, features_only=True).eval()
    with torch.no_grad():
        maps = network(torch.zeros(1, 3, 224, 224))
    assert [found.shape[1] * 8 for found in maps] == [32, 160, 256, 512, 544, 1600, 1664]
    assert [found.shape[2] for found in maps] == [112, 112, 56, 56, 28, 28, 14]


def test_the_light_relative_has_two_blocks_and_200_hidden_units():
    network = build("alzubaidi_light", num_classes=3)
    assert network.num_features == 4 * 64 + 32
    assert network.head.hidden.out_features == 200
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == 11


@settings(max_examples=25, deadline=None)
@given(height=st.integers(16, 90), width=st.integers(16, 90), light=st.booleans())
def test_any_input_size_gives_maps_of_ceil_size_over_stride(height, width, light):
    network = timm.create_model("alzubaidi_light" if light else "alzubaidi_dcnn", num_classes=0, width=2).eval()
    stride = 4 if light else 16
    with torch.no_grad():
        maps = network.forward_features(torch.zeros(1, 3, height, width))
    assert maps.shape == (1, network.num_features, -(-height // stride), -(-width // stride))


@given(size=st.integers(1, 300), kernel=st.sampled_from([1, 3, 5, 7]), stride=st.sampled_from([1, 2, 4, 8]))
def test_same_padding_gives_ceil_size_over_stride_and_puts_an_odd_zero_after(size, kernel, stride):
    before, after = same_padding(size, kernel, stride)
    assert (size + before + after - kernel) // stride + 1 == -(-size // stride)
    assert after - before in (0, 1)


def test_a_strided_convolution_reads_the_pixels_that_matlab_and_tensorflow_read():
    conv = SameConv2d(1, 1, 3, 2)
    nn.init.ones_(conv.weight)
    nn.init.zeros_(conv.bias)
    row = torch.tensor([1.0, 10.0, 100.0, 1000.0]).view(1, 1, 1, 4)
    assert conv(row.expand(1, 1, 1, 4)).flatten().tolist() == [111.0, 1100.0]  # zero after, none before


def test_zero_classes_give_pooled_features_and_reset_gives_a_new_head():
    network = timm.create_model("alzubaidi_dcnn", num_classes=0, width=2).eval()
    images = torch.randn(2, 3, 32, 32)
    features = network(images)
    assert features.shape == (2, network.num_features) == (2, 104)
    network.reset_classifier(5)
    assert network(images).shape == (2, 5)
    assert torch.equal(network.forward_head(network.forward_features(images), pre_logits=True), features)
    assert network.get_classifier().out_features == 5


def test_every_parameter_gets_a_gradient():
    network = timm.create_model("alzubaidi_dcnn", num_classes=2, width=2, drop_rate=0.0)
    network(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_there_is_no_activation_between_the_fully_connected_layers():
    network = timm.create_model("alzubaidi_dcnn", num_classes=2, width=2).eval()
    features = torch.randn(3, 104)
    difference = network.head(features) - network.head(torch.zeros(3, 104))
    assert torch.allclose(network.head(-features) - network.head(torch.zeros(3, 104)), -difference, atol=1e-5)
