"""Grad-CAM: the features of a late layer that raise a class, added up where they lie.

Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization, ICCV 2017, equations 1 and 2:
L = ReLU(sum over channels k of a_k A_k), where A_k is a feature map and a_k the mean over its cells of d score / d A_k.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from isograft.explain.scores import LogOdds, stretched

FEWEST_CELLS = 4
"""A map must have this many rows and columns to say where something is; a small image's last map may have one."""


@dataclass(frozen=True)
class MapLayer:
    """A layer whose output is a feature map.

    Attributes:
        network: (B, 3, S, S) to logits (B, K), through `layer`.
        layer: A module of it whose output is (B, C, h, w).
        name: What people may call it.
        cells: Rows and columns (h, w) of the map.
    """

    network: nn.Module
    layer: nn.Module
    name: str
    cells: tuple[int, int]


class Split(nn.Module):
    """A network cut at its last feature map, before pooling, as every convolutional network of timm can be.

    Attributes:
        backbone: Has `forward_features` and `forward_head`.
        head: Pooled features to logits.
        maps: Passes on the last map, (B, C, h, w); hooks go here.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.maps = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Normalised float images (B, 3, S, S) to logits (B, K)."""
        maps: Tensor = self.backbone.forward_features(images)  # type: ignore[operator]
        channels = getattr(self.backbone, "num_features", 0)
        last = maps.ndim == 4 and maps.shape[-1] == channels != maps.shape[1]  # Swin keeps its channels last
        maps = self.maps(maps.permute(0, 3, 1, 2) if last else maps)
        logits: Tensor = self.head(self.backbone.forward_head(maps.permute(0, 2, 3, 1) if last else maps))  # type: ignore[operator]
        return logits


def parts(network: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The backbone and the head of a classifier; a network that is not made of these is its own backbone."""
    backbone, head = getattr(network, "backbone", None), getattr(network, "head", None)
    if isinstance(backbone, nn.Module) and isinstance(head, nn.Module):
        return backbone, head
    return network, nn.Identity()


def find_map_layer(network: nn.Module, side: int) -> MapLayer | None:
    """The last layer of at least `FEWEST_CELLS` x `FEWEST_CELLS` cells; the last of at least 2 x 2 when there is none.

    Args:
        network: A classifier in evaluation mode.
        side: Side S of its input in pixels.

    Returns:
        The layer, or None for a network without feature maps, such as a vision transformer.
    """
    found = list(_candidates(network, side))
    for fewest in (FEWEST_CELLS, 2):
        for one in found:
            if min(one.cells) >= fewest:
                return one
    return None


def grad_cam(layer: MapLayer, images: Tensor, target: int) -> Tensor:
    """The map of one class.

    Args:
        layer: Where to look.
        images: One normalised float image (1, 3, S, S).
        target: The class.

    Returns:
        Non-negative float (S, S), stretched bilinearly from the layer's cells.
    """
    from captum.attr import LayerGradCam

    method = LayerGradCam(LogOdds(layer.network), layer.layer)
    coarse = method.attribute(images.clone().requires_grad_(), target=target, relu_attributions=True)
    return stretched(coarse.detach()[0, 0], images.shape[-1])


def _candidates(network: nn.Module, side: int) -> Iterator[MapLayer]:
    """Layers with a feature map on the network's main path, the last first."""
    backbone, head = parts(network)
    trial = trial_image(network, side)
    split = Split(backbone, head).eval()
    try:
        shape = _shapes(split, {"": split.maps}, trial)[""]
        with torch.no_grad():
            same = torch.allclose(split(trial), network(trial), rtol=1e-3, atol=1e-4)
    except (AttributeError, TypeError, ValueError, RuntimeError, KeyError):
        return
    if not same or len(shape) != 4:
        return
    yield MapLayer(split, split.maps, "the last feature map", (shape[2], shape[3]))
    stages = stage_modules(backbone)
    for name, shape in reversed(_shapes(network, stages, trial).items()):
        if len(shape) == 4 and shape[1] == _channels(backbone, name):
            yield MapLayer(network, stages[name], name, (shape[2], shape[3]))


def stage_modules(backbone: nn.Module) -> dict[str, nn.Module]:
    """The stages of a convolutional network, in order, by the names timm lists them under."""
    listed = getattr(backbone, "feature_info", None)
    names = [str(entry.get("module")) for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    known = dict(backbone.named_modules())
    return {name: known[name] for name in names if name in known}


def trial_image(network: nn.Module, side: int) -> Tensor:
    """A smooth normalised image (1, 3, S, S) on the network's device, to try what it does."""
    device = next((one.device for one in network.parameters()), torch.device("cpu"))
    ramp = torch.linspace(-1, 1, side, device=device)
    return torch.stack([ramp.expand(side, side), ramp[:, None].expand(side, side), ramp.flip(0).expand(side, side)])[None]


def _channels(backbone: nn.Module, name: str) -> int:
    listed: list[dict[str, int | str]] = backbone.feature_info  # type: ignore[assignment]
    return next(int(entry["num_chs"]) for entry in listed if entry.get("module") == name)


def _shapes(network: nn.Module, layers: dict[str, nn.Module], trial: Tensor) -> dict[str, tuple[int, ...]]:
    """What shape each layer gives, in the order they are run."""
    shapes: dict[str, tuple[int, ...]] = {}

    def keep(name: str, output: object) -> None:
        if isinstance(output, Tensor):
            shapes[name] = tuple(output.shape)

    hooks = [layer.register_forward_hook(lambda _m, _i, output, name=name: keep(name, output)) for name, layer in layers.items()]
    try:
        with torch.no_grad():
            network(trial)
    finally:
        for hook in hooks:
            hook.remove()
    return shapes
