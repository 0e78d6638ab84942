"""Where a training starts: which network, with which weights, seeing pixels in which scale."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from isograft import console
from isograft.data.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from isograft.errors import IsograftError
from isograft.model import Model
from isograft.networks.backbones import build_backbone, parse_arguments
from isograft.networks.weights import Account, InitWeights, adapt, resolve_init

SCRATCH_BACKBONE = "resnet18"
WORKING_MARGIN = 1.5  # images are kept somewhat larger than the network's input, so that crops stay sharp

Triple = tuple[float, float, float]


@dataclass
class Start:
    """A network to be built and the weights it begins with.

    Attributes:
        init: What `--init` said.
        backbone: timm name.
        arguments: Arguments of the backbone.
        reason: Why this backbone.
        weights: The weights; no tensors when from scratch.
        account: Which tensors were loaded, resized or skipped, once built.
    """

    init: str
    backbone: str
    arguments: dict[str, Any]
    reason: str
    weights: InitWeights
    account: Account | None = field(default=None)

    @property
    def parent(self) -> Model | None:
        """The model folder started from, if any."""
        return self.weights.model

    @property
    def image_size(self) -> int | None:
        """The input size of the parent model, in pixels."""
        return self.parent.preprocess.image_size if self.parent is not None else None

    @property
    def pixel_scale(self) -> tuple[Triple, Triple]:
        """Per-channel mean and standard deviation the weights expect."""
        if self.parent is not None:
            return self.parent.preprocess.mean, self.parent.preprocess.std
        return self.weights.mean or IMAGENET_MEAN, self.weights.std or IMAGENET_STD

    def preprocess(self, image_size: int) -> Preprocess:
        """How an image becomes an input of this size, in the scale that the weights expect."""
        mean, std = self.pixel_scale
        return Preprocess(image_size=image_size, working_size=round(WORKING_MARGIN * image_size), mean=mean, std=std)

    @property
    def keeps_statistics(self) -> bool:
        """Whether every batch statistic of the built network came with the weights, so that it may be kept as it is."""
        return self.account is not None and not any("running_" in name for name in self.account.missing)

    def parent_decision(self, name: str) -> Any:
        """What the parent's plan decided under a name, or None."""
        plan = self.parent.passport.plan if self.parent is not None else []
        return next((entry["value"] for entry in plan if entry["name"] == name), None)

    def describe(self) -> str:
        """The origin of the weights in words."""
        return self.weights.source if self.weights.tensors else "random weights"

    def fingerprint(self) -> str:
        """A hash of the starting weights, by which a resumed run knows them again."""
        if self.parent is not None:
            return self.parent.content_hash
        digest = hashlib.sha256(self.backbone.encode())
        for name in sorted(self.weights.tensors):
            tensor = self.weights.tensors[name].detach().cpu().contiguous()
            digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
            digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def build(self, image_size: int) -> nn.Module:
        """Make the backbone (B, 3, S, S) -> (B, num_features), load the weights, and say what was loaded.

        Raises:
            IsograftError: The backbone cannot be built with its arguments for this size, or no tensor of the weights fits.
        """
        network = build_backbone(self.backbone, self.arguments, image_size)
        if self.weights.tensors:
            self.account = adapt(network, self.weights.tensors)
            console.say(f"weights from {self.weights.source}: {self.account.summary()}")
        return network


def open_start(init: str, backbone: str, backbone_arg: tuple[str, ...]) -> Start:
    """Resolve `--init`, `--backbone` and `--backbone-arg` together.

    Arguments of the network the weights belong to are kept, unless another network is asked for; those given come first.

    Raises:
        IsograftError: An argument is malformed, the weights cannot be had, or no one says which network they belong to.
    """
    arguments = parse_arguments(backbone_arg)
    weights = resolve_init(init, backbone, arguments)
    if backbone != "auto":
        if weights.backbone is not None and _architecture(weights.backbone) == _architecture(backbone):
            arguments = {**weights.arguments, **arguments}
        return Start(init, backbone, arguments, "as asked", weights)
    if init == "scratch":
        return Start(init, SCRATCH_BACKBONE, arguments, "small and well tried on few images", weights)
    if weights.backbone is None:
        raise IsograftError(f"--init {init} does not say which network its weights belong to; add --backbone NAME")
    return Start(init, weights.backbone, {**weights.arguments, **arguments}, f"the network of the weights: {weights.source}", weights)


def _architecture(name: str) -> str:
    """A timm name without the tag that names its weights: `resnet18` of `resnet18.a1_in1k`."""
    return name.partition(".")[0]
