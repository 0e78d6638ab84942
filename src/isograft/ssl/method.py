"""What every pretraining method has in common: views in, one loss out, a backbone to keep."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from isograft.errors import IsograftError

if TYPE_CHECKING:
    from isograft.data.augment import ViewPolicy
    from isograft.data.loader import ViewSpec

METHODS: dict[str, type[Method]] = {}
"""Every method by name, filled as the modules of this package are imported."""


@dataclass(frozen=True)
class MethodOutput:
    """One training step's result.

    Attributes:
        loss: Scalar to minimise, with gradient.
        embedding: Backbone features of the batch's first view, float32 (B, D), detached.
        terms: Detached scalars worth recording, by name; kept as tensors so that a step on an accelerator need not wait for them.
    """

    loss: Tensor
    embedding: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, float]:
        """The recorded terms as numbers; reading them waits for the device."""
        return {name: float(value) for name, value in self.terms.items()}


class Method(nn.Module):
    """Base of the pretraining methods.

    A method owns the backbone and whatever it trains beside it. Everything a resumed run needs
    (teacher, centre, counters) is a module or buffer, so `state_dict` holds it all.

    Class attributes:
        name: The name users write.
        citation: The paper.
    """

    name: ClassVar[str] = ""
    citation: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in vars(cls):  # torch makes subclasses of its own, of networks that it shares out
            METHODS[cls.name] = cls

    def __init__(self, backbone: nn.Module, features: int) -> None:
        """Keep the backbone.

        Args:
            backbone: Maps float (B, 3, S, S) to (B, features).
            features: Width of its output.
        """
        super().__init__()
        self.backbone = backbone
        self.features = features

    def view_specs(self, size: int, policy: ViewPolicy) -> list[ViewSpec]:
        """Say which views of each image this method needs: by default two at full size.

        Args:
            size: Side of the square the network sees, in pixels.
            policy: How views vary.
        """
        from isograft.data.loader import ViewSpec

        return [ViewSpec(count=2, size=size, policy=policy)]

    def step(self, views: Sequence[Tensor], labels: Tensor | None = None) -> MethodOutput:
        """Compute the loss of one batch.

        Args:
            views: Normalised float32 (B, 3, S, S) tensors, all views of the first spec first; sizes may differ between specs.
            labels: int64 (B,) or None; only `supervised` reads them.
        """
        raise NotImplementedError

    def forward(self, views: Sequence[Tensor], labels: Tensor | None = None) -> MethodOutput:
        """Same as `step`, so that wrappers which intercept `forward` see it."""
        return self.step(views, labels)

    def after_step(self, progress: float) -> None:
        """Update what follows the optimizer (a teacher, a schedule).

        Args:
            progress: Share of the run that is done, in [0, 1]; the caller knows the number of steps.
        """

    def backbones(self) -> Sequence[nn.Module]:
        """The backbone and, in methods that have one, its teacher."""
        return [self.backbone]

    def by_image(self) -> Sequence[nn.Module]:
        """What may see a batch in parts, as it maps (N, …) to (N, …) image by image but for batch norm."""
        return self.backbones()

    def export_backbone(self) -> nn.Module:
        """The network whose weights are worth keeping: student or teacher, as the paper has it."""
        return self.backbone


def build_method(name: str, backbone: nn.Module, features: int, **options: Any) -> Method:
    """Make a method by name.

    Args:
        name: One of `METHODS`.
        backbone: Maps float (B, 3, S, S) to (B, features), with its starting weights in it: a teacher is copied from it now.
        features: Width of its output.
        options: Keyword arguments of the method's class.

    Raises:
        IsograftError: Unknown method or option.
    """
    import isograft.ssl  # noqa: F401  (fills METHODS)

    if name not in METHODS:
        raise IsograftError(f"there is no pretraining method '{name}'; choose one of {', '.join(sorted(METHODS))}")
    known = list(inspect.signature(METHODS[name].__init__).parameters)[3:]
    for option in options:
        if option not in known:
            raise IsograftError(f"method {name} has no option '{option}'; its options are {', '.join(known)}")
    return METHODS[name](backbone, features, **options)


def embed_views(network: nn.Module, views: Sequence[Tensor]) -> list[Tensor]:
    """Run a network once per distinct size on the concatenated views.

    Args:
        network: Maps (N, 3, S, S) to (N, D).
        views: (B, 3, S, S) tensors; sizes may differ.

    Returns:
        One (B, D) tensor per view, in the order of `views`.
    """
    out: list[Tensor | None] = [None] * len(views)
    for places in _places_by_size(views):
        joined = network(torch.cat([views[place] for place in places]))
        for place, part in zip(places, joined.split([len(views[p]) for p in places]), strict=True):
            out[place] = part
    return [part for part in out if part is not None]


def require_views(method: Method, views: Sequence[Tensor], least: int) -> None:
    """Refuse a batch with fewer views than the loss is defined for."""
    if len(views) < least:
        raise IsograftError(f"method {method.name} needs at least {least} views of each image but got {len(views)}; use its view_specs")


def keep(embedding: Tensor) -> Tensor:
    """The embedding as `MethodOutput` wants it: detached float32."""
    return embedding.detach().float()


def _places_by_size(views: Sequence[Tensor]) -> Iterator[list[int]]:
    sizes: dict[tuple[int, ...], list[int]] = {}
    for place, view in enumerate(views):
        sizes.setdefault(tuple(view.shape[1:]), []).append(place)
    yield from sizes.values()
