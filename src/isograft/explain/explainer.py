"""One object that explains many images: the method chosen once by the network, then a heatmap per image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from isograft.data.preprocess import Preprocess
from isograft.errors import IsograftError
from isograft.explain.gradcam import find_map_layer, grad_cam
from isograft.explain.heatmap import METHODS, Heatmap
from isograft.explain.perturbation import integrated_gradients, occlusion
from isograft.explain.rollout import find_token_layers, rollout
from isograft.explain.scores import LogOdds, repeatable_kernels

Attribution = Callable[[Tensor, int], tuple[Tensor, str]]
"""One normalised image (1, 3, S, S) and a class to a map (S, S) and a note."""


@dataclass(frozen=True)
class _Way:
    """A method fitted to one network."""

    attribute: Attribution
    reason: str


class Explainer:
    """Makes heatmaps of one classifier.

    A network made of several, with an attribute `members`, is explained by the mean of its members' maps.

    Args:
        network: Normalised float images (B, 3, S, S) to logits (B, K); in evaluation mode. It is moved to the GPU when there is one.
        preprocess: Its preprocessing.
        method: `auto`, or a key of `METHODS`.

    Attributes:
        preprocess: The preprocessing.
        method: The method used, a key of `METHODS`.
        reason: Why this one, and where it looks.

    Raises:
        IsograftError: The method does not fit the network.
    """

    def __init__(self, network: nn.Module, preprocess: Preprocess, method: str = "auto") -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = network.to(self._device).eval()
        self.preprocess = preprocess
        members = getattr(network, "members", None)
        self._members: list[nn.Module] = [self._network] if members is None else list(members)
        ways = None
        if method == "auto":
            self.method, ways = self._automatic()
        elif method in METHODS:
            self.method, ways = method, self._ways(method)
        else:
            raise IsograftError(f"there is no method '{method}' to explain an image; choose auto or one of {', '.join(METHODS)}")
        if ways is None:
            missing = "feature maps of at least 2 x 2 cells" if method == "grad-cam" else "attention over all patches that can be followed"
            raise IsograftError(f"--method {method} needs {missing}, which this network does not have; use --method auto or occlusion")
        self._attributions = [way.attribute for way in ways]
        self.reason = ways[0].reason + (f"; the mean of {len(ways)} networks" if len(ways) > 1 else "")

    def explain(self, pixels: npt.NDArray[np.uint8], target: int) -> Heatmap:
        """Make the heatmap of one class.

        Args:
            pixels: uint8 (S, S, 3) RGB, as `inference.read_picture` gives them.
            target: The class, its place among the scores.
        """
        with repeatable_kernels():
            images = self.preprocess.normalise(torch.from_numpy(np.ascontiguousarray(pixels))[None].to(self._device)).contiguous()
            with torch.no_grad():
                log_odds = float(LogOdds(self._network)(images)[0, target])
            made = [attribute(images, target) for attribute in self._attributions]
        values = torch.stack([one.detach() for one, _ in made]).mean(dim=0)
        notes = list(dict.fromkeys(note for _, note in made if note))
        return Heatmap(values.float().cpu().numpy(), self.method, target, log_odds, "; ".join(notes))

    def _automatic(self) -> tuple[str, list[_Way]]:
        for method in ("grad-cam", "rollout"):
            if (ways := self._ways(method)) is not None:
                return method, ways
        ways = self._ways("occlusion") or []
        told = "the network has neither feature maps that say where something is nor attention that can be followed; "
        return "occlusion", [_Way(way.attribute, told + way.reason) for way in ways]

    def _ways(self, method: str) -> list[_Way] | None:
        """The method for every member, or None when one does not fit."""
        found = [_fit(member, method, self.preprocess.image_size) for member in self._members]
        return None if any(one is None for one in found) else [one for one in found if one is not None]


def heatmaps(network: nn.Module, preprocess: Preprocess, pixels: npt.NDArray[np.uint8], target: int, method: str = "auto") -> Heatmap:
    """Make one heatmap; for many images make one `Explainer`.

    Args:
        network: Normalised float images (B, 3, S, S) to logits (B, K).
        preprocess: Its preprocessing.
        pixels: uint8 (S, S, 3) RGB.
        target: The class, its place among the scores.
        method: `auto`, or a key of `METHODS`.

    Raises:
        IsograftError: The method does not fit the network.
    """
    return Explainer(network, preprocess, method).explain(pixels, target)


def _fit(network: nn.Module, method: str, side: int) -> _Way | None:
    """A method fitted to one network, or None."""
    if method == "grad-cam":
        layer = find_map_layer(network, side)
        if layer is None:
            return None
        rows, columns = layer.cells
        return _Way(
            lambda x, k: (grad_cam(layer, x, k), ""), f"a network with feature maps, seen at {layer.name} of {rows} x {columns} cells"
        )
    if method == "rollout":
        tokens = find_token_layers(network, side)
        if tokens is None:
            return None
        rows, columns = tokens.grid
        told = f"a vision transformer with {len(tokens.layers)} layers of attention over {rows} x {columns} patches"
        return _Way(lambda x, k: (rollout(tokens, x, k), ""), told)
    if method == "occlusion":
        return _Way(lambda x, k: (occlusion(network, x, k), ""), "it fits any network: windows of an eighth of the image are blurred")
    return _Way(lambda x, k: integrated_gradients(network, x, k), "it fits any network: the image is compared with its blurred copy")
