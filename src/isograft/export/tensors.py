"""Weights in the form of other libraries: one safetensors file, or a folder that `timm.create_model` loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
import torch
from safetensors.torch import save
from timm.models import save_for_hf
from torch import Tensor, nn

from isograft.errors import IsograftError
from isograft.export.about import about, as_text
from isograft.model import BACKBONE_PREFIX
from isograft.networks.backbones import has_fixed_size

if TYPE_CHECKING:
    from isograft.model import Model

_HEAD = "head."
_OF_OTHER_WEIGHTS = ("license", "origin_url", "paper_ids", "paper_name", "tag", "notes", "test_input_size", "test_crop_pct")
"""What timm knows of the weights it offers for such a network, which is not true of ours."""


def safetensors_bytes(model: Model) -> bytes:
    """All weights, named as in the model folder, with what the model says about itself in the file's header."""
    return save(model.tensors(), metadata={"format": "pt", **as_text(about(model))})


def write_timm(model: Model, folder: Path) -> None:
    """Fill a folder with `config.json` and `model.safetensors`, as timm and the Hugging Face Hub read them.

    Raises:
        IsograftError: timm has no place for the network: it is an ensemble, or has another head than timm's.
    """
    network = timm_network(model)
    facts = about(model)
    preprocess, arguments = model.preprocess, dict(model.passport.backbone.arguments)
    if has_fixed_size(model.passport.backbone.name):
        arguments["img_size"] = preprocess.image_size
    side = preprocess.image_size
    config: dict[str, Any] = {
        "pretrained_cfg": {
            "input_size": [3, side, side],
            "mean": list(preprocess.mean),
            "std": list(preprocess.std),
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "description": f"made by {facts['made_by']}; {facts['use']}",
        },
        "model_args": arguments,
        "isograft": facts,
    }
    if model.classes is not None:
        config["label_names"] = list(model.classes)
    save_for_hf(network, str(folder), model_config=config, model_args=arguments, safe_serialization=True)
    path = folder / "config.json"
    written = json.loads(path.read_bytes())
    for name in _OF_OTHER_WEIGHTS:
        written["pretrained_cfg"].pop(name, None)
    path.write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load_timm(folder: Path) -> nn.Module:
    """Load such a folder as anybody would."""
    network: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    return network.eval()


def timm_network(model: Model) -> nn.Module:
    """The network as timm's own class, with its weights, in evaluation mode: float (B, 3, S, S) to logits (B, K) or features (B, D)."""
    record, tensors = model.passport.backbone, model.tensors()
    if model.passport.members > 1:
        raise IsograftError(f"{model.folder} is an ensemble of {model.passport.members} networks, and timm holds one; use --to onnx")
    options = dict(record.arguments)
    if has_fixed_size(record.name):
        options["img_size"] = model.preprocess.image_size
    network: nn.Module = timm.create_model(record.name, pretrained=False, num_classes=len(model.classes or ()), **options)
    if model.classes is not None:
        tensors = _with_own_head(network, tensors)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise IsograftError(
            f"timm's {record.name} has no place for these weights ({str(error).splitlines()[-1].strip()}); use --to onnx or safetensors"
        ) from error
    return network.eval()


def _with_own_head(network: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a classifier, named as timm names them."""
    own = network.get_classifier()
    prefix = next((name for name, part in network.named_modules() if part is own and name), None)
    if prefix is None:
        raise IsograftError(f"timm's {type(network).__name__} has another kind of head than this model; use --to onnx or safetensors")
    renamed = {}
    for name, tensor in tensors.items():
        if name.startswith(BACKBONE_PREFIX):
            renamed[name.removeprefix(BACKBONE_PREFIX)] = tensor
        else:
            renamed[f"{prefix}.{name.removeprefix(_HEAD)}"] = tensor
    return renamed


def features_of(network: Any) -> nn.Module:
    """The same network without its scores, in evaluation mode."""
    if getattr(network, "num_classes", 0):
        network.reset_classifier(0)
    bare: nn.Module = network.eval()
    return bare


def apply(network: nn.Module, images: Tensor) -> Tensor:
    """A network's output for normalised images, without gradients."""
    with torch.inference_mode():
        output: Tensor = network(images)
    return output
