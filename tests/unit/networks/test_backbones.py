"""Backbones by name, with clear words when that is not possible."""

import pytest
import torch

from isograft.errors import IsograftError
from isograft.networks.backbones import build_backbone, parse_arguments


@pytest.mark.parametrize(("name", "size"), [("alzubaidi_light", 33), ("test_resnet", 32), ("test_vit", 32), ("mobilenetv3_small_050", 32)])
def test_a_backbone_gives_num_features_numbers_per_image(name, size):
    backbone = build_backbone(name, {}, size).eval()
    assert backbone(torch.zeros(2, 3, size, size)).shape == (2, backbone.num_features)


def test_position_embeddings_are_built_for_the_image_size():
    assert build_backbone("test_vit", {}, 64).pos_embed.shape[1] > build_backbone("test_vit", {}, 32).pos_embed.shape[1]


def test_arguments_reach_the_network():
    assert build_backbone("alzubaidi_dcnn", {"width": 2}, 32).num_features == 104


def test_an_unknown_name_is_answered_with_near_ones():
    with pytest.raises(IsograftError, match=r"no backbone 'resnet81'; did you mean .*resnet18"):
        build_backbone("resnet81", {}, 32)


@pytest.mark.parametrize("arguments", [{"width": 0}, {"wdth": 3}])
def test_wrong_arguments_are_named(arguments):
    with pytest.raises(IsograftError, match=r"alzubaidi_dcnn cannot be built with .*width|wdth"):
        build_backbone("alzubaidi_dcnn", arguments, 32)


def test_an_image_size_that_patches_do_not_fill_is_refused_with_the_sizes_that_work():
    with pytest.raises(IsograftError, match="use --image-size 32 or 48"):
        build_backbone("test_vit", {}, 40)


def test_an_image_size_too_small_for_the_network_is_refused():
    with pytest.raises(IsograftError, match="does not take images of 7 px"):
        build_backbone("densenet121", {}, 7)


def test_arguments_are_read_as_numbers_words_and_text():
    read = parse_arguments(("width=8", "rate=0.5", "flag=true", "other=none", "sizes=(1, 2)", "name=abc"))
    assert read == {"width": 8, "rate": 0.5, "flag": True, "other": None, "sizes": (1, 2), "name": "abc"}


@pytest.mark.parametrize("pair", ["width", "=8", "num_classes=3", "in_chans=1", "pretrained=true"])
def test_malformed_and_reserved_arguments_are_refused(pair):
    with pytest.raises(IsograftError, match="--backbone-arg"):
        parse_arguments((pair,))


def test_the_same_argument_twice_is_refused():
    with pytest.raises(IsograftError, match="twice"):
        parse_arguments(("width=8", "width=4"))
