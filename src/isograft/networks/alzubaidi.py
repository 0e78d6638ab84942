"""The network of Alzubaidi et al. and its light relative, registered with timm.

Alzubaidi et al., Novel Transfer Learning Approach for Medical Imaging with Limited Labeled Data, Cancers 2021, 13(7):1590,
doi:10.3390/cancers13071590; the light relative is that of PeerJ Computer Science 2021, 7:e715.

Blocks run 1x1, 3x3, 5x5 and 7x7 convolutions side by side and concatenate them; the "residual links" are concatenated too,
never added: the block's own input as it is, or an earlier map through a strided 3x3 convolution. Every map has
ceil(input / stride) rows and columns, so concatenated maps agree for any input size.

The weight initialisation (He) is this project's choice. On CPUs the parallel convolutions run fastest one by one on
channels-last maps: one 7x7 convolution with zero-padded kernels costs 2.3 times the arithmetic, and all four run near the speed of a
matrix product already. What is slow on AVX2 is the gradient of their filters (`matrix_convolution.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.nn import functional as F

from isograft.networks.heads import PaperHead, scaled_hidden

KERNELS = (1, 3, 5, 7)
STEM = 0


class Link(NamedTuple):
    """An earlier map that a block concatenates through a strided 3x3 convolution.

    Attributes:
        source: 0 for the second stem, n for block n.
        stride: Pixels of the source per pixel of the block's output.
    """

    source: int
    stride: int


class BlockPlan(NamedTuple):
    """One block of the table.

    Attributes:
        filters: Filters of each of the four convolutions, in base widths.
        stride: Stride of the four convolutions.
        identity: Whether the block's input is concatenated as it is.
        links: Earlier maps concatenated through a convolution with one base width of filters.
    """

    filters: int
    stride: int
    identity: bool = False
    links: tuple[Link, ...] = ()


PAPER_BLOCKS = (
    BlockPlan(1, 1, identity=True),
    BlockPlan(2, 2),
    BlockPlan(2, 1, identity=True),
    BlockPlan(4, 2, links=(Link(2, 2),)),
    BlockPlan(8, 1, identity=True, links=(Link(1, 4),)),
    BlockPlan(12, 2, links=(Link(STEM, 8), Link(1, 8), Link(2, 4), Link(4, 2))),
)
LIGHT_BLOCKS = (BlockPlan(1, 1, identity=True), BlockPlan(2, 2, links=(Link(STEM, 2),)))


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis so that a convolution gives ceil(size / stride); an odd one goes after.

    Args:
        size: Length of the axis in pixels.
        kernel: Length of the kernel.
        stride: Step of the kernel.
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """A convolution with bias whose output has ceil(input / stride) rows and columns.

    Class attributes:
        convolve: Computes it from input, weight, bias, stride and padding, as `F.conv2d` does.
    """

    convolve: ClassVar[Callable[..., Tensor]] = staticmethod(F.conv2d)

    def forward(self, input: Tensor) -> Tensor:
        """Float maps (B, C, H, W) to (B, F, ceil(H / stride), ceil(W / stride))."""
        stride = self.stride[0]
        top, bottom = same_padding(input.shape[2], self.kernel_size[0], stride)
        left, right = same_padding(input.shape[3], self.kernel_size[1], stride)
        if top == bottom and left == right:
            return self.convolve(input, self.weight, self.bias, (stride, stride), (top, left))
        return self.convolve(F.pad(input, (left, right, top, bottom)), self.weight, self.bias, (stride, stride), (0, 0))


class ConvNormAct(nn.Module):
    """Convolution with bias, batch norm, ReLU."""

    def __init__(self, in_chans: int, filters: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = SameConv2d(in_chans, filters, kernel, stride)
        self.bn = nn.BatchNorm2d(filters)

    def forward(self, maps: Tensor) -> Tensor:
        """Float maps (B, C, H, W) to non-negative (B, F, ceil(H / stride), ceil(W / stride))."""
        return F.relu(self.bn(self.conv(maps)), inplace=True)


class ParallelBlock(nn.Module):
    """Four parallel convolutions and the links, concatenated, then batch norm without ReLU.

    Args:
        plan: The block's line in the table.
        width: Filters of one base width.
        channels: Channels of the second stem and of every block before this one; the last is the block's input.
    """

    def __init__(self, plan: BlockPlan, width: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.identity = plan.identity
        self.sources = [link.source for link in plan.links]
        filters = plan.filters * width
        self.branches = nn.ModuleList(ConvNormAct(channels[-1], filters, kernel, plan.stride) for kernel in KERNELS)
        self.links = nn.ModuleList(ConvNormAct(channels[link.source], width, 3, link.stride) for link in plan.links)
        self.out_chans = len(KERNELS) * filters + plan.identity * channels[-1] + len(plan.links) * width
        self.bn = nn.BatchNorm2d(self.out_chans)

    def forward(self, earlier: list[Tensor]) -> Tensor:
        """Maps of the second stem and of all blocks so far, each (B, C, H, W), to this block's map."""
        parts = [branch(earlier[-1]) for branch in self.branches]
        if self.identity:
            parts.append(earlier[-1])
        parts += [link(earlier[source]) for link, source in zip(self.links, self.sources, strict=True)]
        maps: Tensor = self.bn(torch.cat(parts, dim=1))
        return maps


class AlzubaidiNet(nn.Module):
    """Two strided stems, blocks of parallel convolutions, average pooling, and two fully connected layers.

    With 32 filters and the six blocks of the paper: 73,588,978 parameters for 2 classes.

    Args:
        blocks: The table of blocks.
        num_classes: Scores to give; 0 for the pooled features (B, num_features) without any head.
        in_chans: Channels of the image.
        width: Filters of the first convolution; every other width is a multiple of it. 32 in the paper.
        drop_rate: Dropout between the two fully connected layers.
        head_hidden: Units of the first fully connected layer [default: `paper_hidden` at width 32, in proportion otherwise].
        paper_hidden: Units of the first fully connected layer at width 32.
        global_pool: Always `avg`; here because timm passes it.
    """

    def __init__(
        self,
        blocks: tuple[BlockPlan, ...] = PAPER_BLOCKS,
        num_classes: int = 1000,
        in_chans: int = 3,
        width: int = 32,
        drop_rate: float = 0.5,
        head_hidden: int | None = None,
        paper_hidden: int = 1200,
        global_pool: str = "avg",
    ) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width is {width}, but must be 1 or more")
        if global_pool != "avg":
            raise ValueError(f"global_pool is {global_pool!r}, but only 'avg' is possible")
        self.in_chans, self.drop_rate, self.global_pool = in_chans, drop_rate, global_pool
        self.head_hidden = head_hidden or scaled_hidden(width, paper_hidden, 32)
        self.stem = nn.Sequential(ConvNormAct(in_chans, width, 3, 1), ConvNormAct(width, width, 5, 2))
        self.blocks = nn.ModuleList()
        self.feature_info = [{"num_chs": width, "reduction": 2, "module": "stem"}]
        channels, reduction = [width], 2
        for index, plan in enumerate(blocks):
            block = ParallelBlock(plan, width, channels)
            self.blocks.append(block)
            channels.append(block.out_chans)
            reduction *= plan.stride
            self.feature_info.append({"num_chs": block.out_chans, "reduction": reduction, "module": f"blocks.{index}"})
        self.num_features = self.head_hidden_size = channels[-1]
        self._init_convolutions()
        self.reset_classifier(num_classes)

    def _init_convolutions(self) -> None:
        for module in self.modules():
            if isinstance(module, SameConv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.constant_(module.bias, 0.0)  # type: ignore[arg-type]  # every convolution here has a bias

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace both fully connected layers by new ones; none with 0 classes (timm's interface)."""
        if global_pool not in (None, "avg"):
            raise ValueError(f"global_pool is {global_pool!r}, but only 'avg' is possible")
        self.num_classes = num_classes
        self.head: nn.Module = nn.Identity()
        if num_classes > 0:
            self.head = PaperHead(self.num_features, num_classes, self.head_hidden, self.drop_rate)

    def get_classifier(self) -> nn.Module:
        """The last fully connected layer, or an identity with 0 classes (timm's interface)."""
        return self.head.fc if isinstance(self.head, PaperHead) else self.head

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns that sort parameter names by depth, for layer-wise learning rates (timm's interface)."""
        return {"stem": r"^stem" if coarse else r"^stem\.(\d+)", "blocks": r"^blocks\.(\d+)"}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Not supported (timm's interface)."""
        if enable:
            raise NotImplementedError("this network has no gradient checkpointing")

    def forward_features(self, images: Tensor) -> Tensor:
        """Normalised float images (B, in_chans, H, W) to the last map: (B, num_features, ceil(H / 16), ceil(W / 16)), light / 4."""
        maps: list[Tensor] = [self.stem(images.contiguous(memory_format=torch.channels_last))]
        for block in self.blocks:
            maps.append(block(maps))
        return maps[-1]

    def forward_head(self, maps: Tensor, pre_logits: bool = False) -> Tensor:
        """The last map (B, num_features, h, w) to logits (B, num_classes), or to pooled features (B, num_features)."""
        pooled = maps.mean((2, 3))
        if pre_logits:
            return pooled
        logits: Tensor = self.head(pooled)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Normalised float images (B, in_chans, H, W) to logits (B, num_classes), or pooled features with 0 classes."""
        return self.forward_head(self.forward_features(images))


def _cfg() -> dict[str, Any]:
    return {
        "url": "",
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": None,
        "min_input_size": (3, 16, 16),
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "first_conv": "stem.0.conv",
        "classifier": "head.fc",
    }


default_cfgs = generate_default_cfgs({"alzubaidi_dcnn.untrained": _cfg(), "alzubaidi_light.untrained": _cfg()})


def alzubaidi_dcnn(pretrained: bool = False, **kwargs: Any) -> AlzubaidiNet:
    """The network of the paper (Cancers 2021, 13(7):1590); see `AlzubaidiNet` for the arguments."""
    return _create("alzubaidi_dcnn", pretrained, PAPER_BLOCKS, 1200, kwargs)


def alzubaidi_light(pretrained: bool = False, **kwargs: Any) -> AlzubaidiNet:
    """The light relative (PeerJ Computer Science 2021, 7:e715): two blocks, 200 hidden units at width 32."""
    return _create("alzubaidi_light", pretrained, LIGHT_BLOCKS, 200, kwargs)


def _create(name: str, pretrained: bool, blocks: tuple[BlockPlan, ...], hidden: int, arguments: dict[str, Any]) -> AlzubaidiNet:
    feature_cfg = {"out_indices": tuple(range(len(blocks) + 1)), "feature_cls": "hook", "flatten_sequential": False}
    network: AlzubaidiNet = build_model_with_cfg(
        AlzubaidiNet, name, pretrained, feature_cfg=feature_cfg, blocks=blocks, paper_hidden=hidden, **arguments
    )
    return network


register_model(alzubaidi_dcnn)
register_model(alzubaidi_light)
