"""What a convolutional network is made of, in pictures: its first filters, and the feature maps of its stages for one image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from isograft.data.preprocess import Preprocess
from isograft.errors import IsograftError
from isograft.explain.gradcam import parts, stage_modules
from isograft.explain.pictures import Image, png
from isograft.report.figures import new_canvas

MOST_FILTERS = 64
SHOWN_MAPS = 6


def require_features(network: nn.Module) -> None:
    """Refuse a network without filters over the colours of the image, or without stages.

    Raises:
        IsograftError: It has none.
    """
    first = next(_convolutions(network), None)
    if first is None or first.in_channels != 3 or not stage_modules(parts(network)[0]) or hasattr(parts(network)[0], "patch_embed"):
        raise IsograftError("--features shows the filters and maps of a convolutional network, which this one is not; leave it out")


def filters(network: nn.Module) -> npt.NDArray[np.float32]:
    """The filters of the first convolution, each scaled so that zero is grey (0.5) and its largest weight touches 0 or 1.

    Returns:
        float32 (F, k, k, 3) in [0, 1], red, green, blue; F at most `MOST_FILTERS`.
    """
    require_features(network)
    weights = next(_convolutions(network)).weight.detach().float().cpu().numpy()[:MOST_FILTERS].transpose(0, 2, 3, 1)
    largest = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
    scaled: npt.NDArray[np.float32] = (0.5 + weights / np.where(largest > 0, 2 * largest, 1)).astype(np.float32)
    return scaled


def filters_sheet(network: nn.Module) -> bytes:
    """The first filters as the bytes of a PNG file."""
    made = filters(network)
    columns = min(16, len(made))
    rows = -(-len(made) // columns)
    canvas, axes = new_canvas(0.55 * columns + 0.2, 0.55 * rows + 0.5, rows, columns)
    for place, box in enumerate(np.atleast_1d(axes).flat):
        box.set_axis_off()
        if place < len(made):
            box.imshow(made[place], interpolation="none", vmin=0, vmax=1)
    size = made.shape[1]
    canvas.suptitle(f"{len(made)} filters of {size} x {size} pixels; grey is zero, each scaled by itself", fontsize=9)
    return png(canvas)


def feature_maps(network: nn.Module, preprocess: Preprocess, pixels: Image) -> dict[str, npt.NDArray[np.float32]]:
    """What each stage makes of one image: float32 (C, h, w) by the stage's name, in order.

    Args:
        network: A convolutional classifier in evaluation mode.
        preprocess: Its preprocessing.
        pixels: uint8 (S, S, 3) RGB.
    """
    kept: dict[str, npt.NDArray[np.float32]] = {}

    def keep(name: str, output: Tensor) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            kept[name] = output[0].float().cpu().numpy()

    stages = stage_modules(parts(network)[0])
    hooks = [stage.register_forward_hook(lambda _m, _i, output, name=name: keep(name, output)) for name, stage in stages.items()]
    device = next(network.parameters()).device
    try:
        with torch.no_grad():
            network(preprocess.normalise(torch.from_numpy(np.ascontiguousarray(pixels))[None].to(device)))
    finally:
        for hook in hooks:
            hook.remove()
    return kept


def feature_sheet(maps: dict[str, npt.NDArray[np.float32]]) -> bytes:
    """A row per stage as the bytes of a PNG file: the mean of its channels' sizes, then the channels that vary most over the image.

    Args:
        maps: From `feature_maps`.
    """
    canvas, axes = new_canvas(1.15 * (SHOWN_MAPS + 1) + 0.9, 1.2 * len(maps) + 0.4, len(maps), SHOWN_MAPS + 1)
    grid = np.atleast_2d(axes)
    for row, (name, stack) in enumerate(maps.items()):
        strongest = np.argsort(-stack.std(axis=(1, 2)), kind="stable")[:SHOWN_MAPS]
        shown = [("mean", np.abs(stack).mean(axis=0)), *((f"map {channel}", stack[channel]) for channel in strongest)]
        for box in grid[row]:
            box.set_axis_off()
        for box, (title, values) in zip(grid[row], shown, strict=False):
            box.imshow(values, cmap="viridis", interpolation="none")
            box.set_title(title, fontsize=7, pad=2)
        label = f"{name}\n{stack.shape[0]} maps\n{stack.shape[1]} x {stack.shape[2]}"
        grid[row][0].text(-0.1, 0.5, label, transform=grid[row][0].transAxes, ha="right", va="center", fontsize=8)
    return png(canvas)


def _convolutions(network: nn.Module) -> Iterator[nn.Conv2d]:
    return (one for one in parts(network)[0].modules() if isinstance(one, nn.Conv2d))
