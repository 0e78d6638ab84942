"""Load weights into a network tensor by tensor, with an account of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from timm.layers import resample_abs_pos_embed
from timm.models import adapt_input_conv
from torch import Tensor, nn

from isograft.errors import IsograftError

_LISTED = 4


@dataclass(frozen=True)
class Account:
    """What became of every tensor.

    Attributes:
        loaded: Names taken as they are.
        resized: Names taken after a change of shape: first convolution or position embeddings.
        skipped: Names of the weights the network has no place for, with the reason.
        missing: Names of the network that keep their initial values.
        share: Share of the network's parameters that were loaded or resized, 0 to 1.
    """

    loaded: list[str]
    resized: list[str]
    skipped: list[str]
    missing: list[str]
    share: float

    def summary(self) -> str:
        """The account in a sentence; partial matches are named."""
        total = len(self.loaded) + len(self.resized) + len(self.missing)
        parts = [f"loaded {len(self.loaded)} of {total} tensors ({_percent(self.share)} of the parameters)"]
        for verb, names in (("resized", self.resized), ("skipped", self.skipped), ("left as initialised", self.missing)):
            if names:
                parts.append(f"{verb} {len(names)} ({_listing(names)})")
        return "; ".join(parts)

    def dump(self) -> dict[str, Any]:
        """The account as a JSON-ready dictionary; loaded names only as a count."""
        return {**asdict(self), "loaded": len(self.loaded)}


def adapt(backbone: nn.Module, tensors: Mapping[str, Tensor]) -> Account:
    """Load what fits into a network, in place.

    Of another shape, only these are taken: a first convolution for another number of channels, and absolute position
    embeddings for another input size (both as timm does it).

    Args:
        backbone: The network.
        tensors: Weights by the network's names.

    Raises:
        IsograftError: No parameter of the network is among the weights, or a weight is not a finite number.
    """
    own = backbone.state_dict()
    parameters = {name: parameter.numel() for name, parameter in backbone.named_parameters()}
    fitted, resized, skipped = _fit(backbone, own, tensors)
    taken = sum(size for name, size in parameters.items() if name in fitted)
    if taken == 0:
        theirs, ours = _listing(list(tensors)), _listing(list(own))
        raise IsograftError(f"none of the {len(tensors)} tensors ({theirs}) fits the backbone ({ours}); give the --backbone they belong to")
    backbone.load_state_dict(fitted, strict=False)
    return Account(
        loaded=[name for name in fitted if name not in resized],
        resized=resized,
        skipped=skipped,
        missing=[name for name in own if name not in fitted],
        share=taken / sum(parameters.values()),
    )


def _fit(backbone: nn.Module, own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """The tensors that fit, the names of those resized for it, and those left over with the reason."""
    fitted: dict[str, Tensor] = {}
    resized: list[str] = []
    skipped: list[str] = []
    for name, tensor in tensors.items():
        if name not in own:
            skipped.append(f"{name}: no place for it")
            continue
        shape = tuple(own[name].shape)
        if tuple(tensor.shape) != shape:
            changed = _resize(backbone, name, tensor, shape)
            if changed is None:
                skipped.append(f"{name}: {tuple(tensor.shape)} in place of {shape}")
                continue
            tensor = changed
            resized.append(name)
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise IsograftError(f"the weight {name} holds NaN or infinity; the file comes from a training that failed, use another one")
        fitted[name] = tensor
    return fitted, resized, skipped


def _resize(backbone: nn.Module, name: str, tensor: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """A tensor changed to the shape the network needs, or None where there is no sound way."""
    if name.endswith("pos_embed") and tensor.ndim == 3 == len(shape) and tensor.shape[2] == shape[2]:
        return _resize_positions(backbone, tensor, shape)
    if tensor.ndim == 4 == len(shape) and (tensor.shape[0], *tensor.shape[2:]) == (shape[0], *shape[2:]) and name == _first_conv(backbone):
        if tensor.shape[1] != 3:
            return None
        return adapt_input_conv(shape[1], tensor)  # type: ignore[no-any-return]
    return None


def _resize_positions(backbone: nn.Module, tensor: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """Position embeddings (1, N, D) interpolated to the network's grid."""
    grid = getattr(getattr(backbone, "patch_embed", None), "grid_size", None)
    if grid is None:
        return None
    prefix = shape[1] - grid[0] * grid[1]
    side = round(max(tensor.shape[1] - prefix, 0) ** 0.5)
    if prefix < 0 or side < 1 or side * side + prefix != tensor.shape[1]:
        return None
    return resample_abs_pos_embed(tensor, list(grid), [side, side], num_prefix_tokens=prefix)  # type: ignore[no-any-return]


def _first_conv(backbone: nn.Module) -> str | None:
    """Name of the weight of the convolution that sees the image."""
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            return f"{name}.weight"
    return None


def _listing(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (f", and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def _percent(share: float) -> str:
    """A share in whole per cent that says 100 only when nothing is missing."""
    return f"{min(round(100 * share), 100 if share == 1 else 99)} %"
