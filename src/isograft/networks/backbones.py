"""Backbones by name: any timm model without its classification layer."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import timm
import torch
from torch import nn

from isograft.errors import IsograftError
from isograft.networks import alzubaidi  # noqa: F401  (registers the paper's network with timm)

_RESERVED = {
    "num_classes": "the head is built from the labels",
    "in_chans": "images are always read as RGB",
    "pretrained": "use --init imagenet",
    "checkpoint_path": "use --init FILE",
    "features_only": "the backbone must end in pooled features",
    "img_size": "use --image-size",
}
_WORDS = {"true": True, "false": False, "none": None}


def parse_arguments(pairs: Iterable[str]) -> dict[str, Any]:
    """Turn `width=8` into `{"width": 8}`: numbers, true, false, none, tuples, else text.

    Raises:
        IsograftError: A pair has no `=`, comes twice, or names what another option decides.
    """
    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = (part.strip() for part in pair.partition("="))
        if not equals or not key.isidentifier():
            raise IsograftError(f"--backbone-arg {pair!r} is not key=value; write for example --backbone-arg width=8")
        if key in arguments:
            raise IsograftError(f"--backbone-arg gives {key} twice; keep one")
        arguments[key] = _literal(text)
    _refuse_reserved(arguments)
    return arguments


def build_backbone(name: str, arguments: Mapping[str, Any], image_size: int) -> nn.Module:
    """Make a network with random weights that turns normalised images into pooled features.

    Args:
        name: A timm model, for example `resnet18`, or `alzubaidi_dcnn`.
        arguments: Further arguments of that model.
        image_size: Side S of its input in pixels; networks with position embeddings are built for it.

    Returns:
        Float (B, 3, S, S) to (B, D); its attribute `num_features` is D.

    Raises:
        IsograftError: There is no such model, it does not take these arguments, or not images of this size.
    """
    require_backbone(name)
    _refuse_reserved(arguments)
    options = dict(arguments)
    if has_fixed_size(name):
        options["img_size"] = image_size
    try:
        network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **options)
    except Exception as error:  # whatever a constructor finds wrong with its arguments
        given = ", ".join(f"{key}={value}" for key, value in options.items()) or "no arguments"
        raise IsograftError(f"backbone {name} cannot be built with {given}: {_first_line(error)}") from error
    _check_patches(network, name, image_size)
    setattr(network, "num_features", _count_features(network, name, image_size))  # noqa: B010  (a network is typed as holding modules)
    return network


def require_backbone(name: str) -> None:
    """Check that timm knows a model of this name.

    Raises:
        IsograftError: It does not; the closest names are listed.
    """
    if "/" not in name and ":" not in name and timm.is_model(name):
        return
    known = timm.list_models()
    close = difflib.get_close_matches(name.lower(), known, n=4) or [entry for entry in known if name.lower() in entry][:4]
    hint = f"did you mean {', '.join(close)}?" if close else "timm.list_models() lists all names"
    raise IsograftError(f"there is no backbone '{name}'; {hint}")


def has_fixed_size(name: str) -> bool:
    """Whether the network must be built for its input size, as with position embeddings."""
    cfg = timm.models.get_pretrained_cfg(name)
    return bool(cfg is not None and cfg.fixed_input_size)


def _literal(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _refuse_reserved(arguments: Mapping[str, Any]) -> None:
    for key in arguments:
        if key in _RESERVED:
            raise IsograftError(f"--backbone-arg {key} is not possible: {_RESERVED[key]}")


def _check_patches(network: nn.Module, name: str, image_size: int) -> None:
    """Refuse sizes of which the network would silently cut off the border.

    timm builds such a network but its patch embedding ignores the rows and columns that fill no whole patch.
    """
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    if not isinstance(patch, tuple) or not patch or image_size % max(patch) == 0:
        return
    side = max(patch)
    below, above = image_size // side * side, (image_size // side + 1) * side
    choice = f"{below} or {above}" if below else str(above)
    raise IsograftError(
        f"backbone {name} cuts images into patches of {side} px, which do not fill {image_size} px; use --image-size {choice}"
    )


def _count_features(network: nn.Module, name: str, image_size: int) -> int:
    """Length of the pooled features, found by trying one black image (timm's `num_features` differs for some networks)."""
    training = network.training
    try:
        with torch.no_grad():
            output = network.eval()(torch.zeros(1, 3, image_size, image_size))
    except Exception as error:  # whatever a network finds wrong with the size
        raise IsograftError(
            f"backbone {name} does not take images of {image_size} px: {_first_line(error)}; try --image-size 224"
        ) from error
    finally:
        network.train(training)
    if not isinstance(output, torch.Tensor) or output.ndim != 2:
        raise IsograftError(f"backbone {name} does not end in one vector per image and cannot be used; choose another one")
    return int(output.shape[1])


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


def feature_count(backbone: nn.Module) -> int:
    """Length D of the pooled features of a network made by `build_backbone`."""
    count: Any = backbone.num_features
    return int(count)
