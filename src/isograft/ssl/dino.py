"""DINO: small crops tell what a slow copy of the network says of large ones (arXiv:2104.14294)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isograft.errors import IsograftError
from isograft.ssl.gather import mean_over_ranks
from isograft.ssl.method import Method, MethodOutput, embed_views, keep, require_views
from isograft.ssl.momentum import follow, momentum_at, teacher_of
from isograft.ssl.precision import in_float32

if TYPE_CHECKING:
    from isograft.data.augment import ViewPolicy
    from isograft.data.loader import ViewSpec

GLOBAL_VIEWS = 2


@in_float32
def dino_loss(
    student: Sequence[Tensor], teacher: Sequence[Tensor], centre: Tensor, student_temperature: float, teacher_temperature: float | Tensor
) -> Tensor:
    """Cross entropy between the teacher's and the student's distributions (arXiv:2104.14294, equation 3, algorithm 1).

    Args:
        student: V tensors (B, K), the teacher's views first.
        teacher: G <= V tensors (B, K), treated as constant.
        centre: (K,) subtracted from the teacher's output.
        student_temperature: > 0.
        teacher_temperature: > 0, sharper (smaller) than the student's.

    Returns:
        Scalar: mean over images and over all (teacher view, other student view) pairs.
    """
    targets = F.softmax((torch.stack(list(teacher)).detach() - centre) / teacher_temperature, dim=-1)
    logs = F.log_softmax(torch.stack(list(student)) / student_temperature, dim=-1)
    entropies = -torch.einsum("gbk,vbk->gv", targets, logs) / targets.shape[1]
    distinct = ~torch.eye(len(teacher), len(student), dtype=torch.bool, device=entropies.device)
    return entropies[distinct].mean()


class DINOHead(nn.Module):
    """Three-layer perceptron, L2 normalisation, and a linear layer whose rows have length 1 (arXiv:2104.14294, appendix C)."""

    def __init__(self, features: int, hidden: int, bottleneck: int, outputs: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.prototypes = nn.Parameter(torch.empty(outputs, bottleneck))
        nn.init.trunc_normal_(self.prototypes, std=0.02)

    def forward(self, embedding: Tensor, open_gate: Tensor | float = 1.0) -> Tensor:
        """Score prototypes.

        Args:
            embedding: (B, features) float.
            open_gate: 0 stops the gradient of the last layer, 1 lets it through; the output is the same to the bit.

        Returns:
            Cosine similarities (B, outputs) in [-1, 1], before temperature.
        """
        still = self.prototypes.detach()
        prototypes = still + open_gate * (self.prototypes - still)
        return F.linear(F.normalize(self.mlp(embedding), dim=-1), F.normalize(prototypes, dim=-1))


class DINO(Method):
    """DINO with multi-crop and a small output, for small pools; the teacher's backbone is kept, as in the paper."""

    name = "dino"
    citation = "Caron M. et al. Emerging Properties in Self-Supervised Vision Transformers. ICCV 2021. arXiv:2104.14294"

    centre: Tensor
    progress: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        features: int,
        outputs: int = 4096,
        hidden: int = 1024,
        bottleneck: int = 256,
        local_views: int = 4,
        local_ratio: float = 0.5,
        global_scale: tuple[float, float] = (0.4, 1.0),
        local_scale: tuple[float, float] = (0.1, 0.4),
        momentum: float = 0.99,
        student_temperature: float = 0.1,
        teacher_temperature: tuple[float, float] = (0.04, 0.07),
        warmup: float = 0.3,
        freeze_last: float = 0.02,
        centre_momentum: float = 0.9,
    ) -> None:
        """Add head, teacher and centre.

        Args:
            backbone: Maps float (B, 3, S, S) to (B, features); must take two sizes when there are local views.
            features: Width of its output.
            outputs: Number of prototypes; the paper's 65536 is for millions of images.
            hidden: Hidden width of the head.
            bottleneck: Width before the last layer.
            local_views: Small views per image, >= 0.
            local_ratio: Side of the local views over that of the global ones, in (0, 1].
            global_scale: Share of the image's area in a global view.
            local_scale: Share of the image's area in a local view.
            momentum: The teacher's momentum at the start, in [0, 1]; it rises to 1 on a half cosine.
            student_temperature: > 0.
            teacher_temperature: At the start, and after the warm-up; > 0.
            warmup: Share of the run in which the teacher's temperature rises.
            freeze_last: Share of the run in which the last layer has no gradient.
            centre_momentum: Momentum of the centre, in [0, 1).
        """
        super().__init__(backbone, features)
        self.local_views, self.local_ratio = local_views, local_ratio
        self.global_scale, self.local_scale = global_scale, local_scale
        self.momentum, self.centre_momentum = momentum, centre_momentum
        self.student_temperature, self.teacher_temperature = student_temperature, teacher_temperature
        self.warmup, self.freeze_last = warmup, freeze_last
        if local_views:
            _allow_other_sizes(backbone)
        self.head = DINOHead(features, hidden, bottleneck, outputs)
        self.teacher_backbone = teacher_of(backbone)
        self.teacher_head = teacher_of(self.head)
        self.register_buffer("centre", torch.zeros(outputs))
        self.register_buffer("progress", torch.zeros(()))

    def view_specs(self, size: int, policy: ViewPolicy) -> list[ViewSpec]:
        """Two global views at full size, and local views of a smaller part at a smaller size.

        Raises:
            IsograftError: The backbone cannot take the local size.
        """
        from isograft.data.loader import ViewSpec

        specs = [ViewSpec(count=GLOBAL_VIEWS, size=size, policy=policy.model_copy(update={"crop": self.global_scale}))]
        if self.local_views:
            small = self.local_size(size)
            self._refuse_unfit_size(small)
            specs.append(ViewSpec(count=self.local_views, size=small, policy=policy.model_copy(update={"crop": self.local_scale})))
        return specs

    def local_size(self, size: int) -> int:
        """Side of the local views: a multiple of the patch size for transformers, of 8 otherwise, and not above `size`."""
        patch = getattr(getattr(self.backbone, "patch_embed", None), "patch_size", 8)
        multiple = int(max(patch)) if isinstance(patch, tuple) else int(patch)
        return min(size, max(multiple, round(size * self.local_ratio / multiple) * multiple))

    def teacher_temperature_now(self) -> Tensor:
        """The teacher's temperature: a line from the first to the second value over the warm-up, a scalar tensor."""
        start, end = self.teacher_temperature
        share = (self.progress / self.warmup).clamp(max=1.0) if self.warmup > 0 else torch.ones_like(self.progress)
        return start + (end - start) * share

    def step(self, views: Sequence[Tensor], labels: Tensor | None = None) -> MethodOutput:
        """Cross entropy of every student view against every other global teacher view; see `Method.step`."""
        require_views(self, views, GLOBAL_VIEWS)
        embeddings = embed_views(self.backbone, views)
        gate = (self.progress >= self.freeze_last).to(embeddings[0].dtype)
        student = self.head(torch.cat(embeddings), gate).chunk(len(views))
        with torch.no_grad():
            large = embed_views(self.teacher_backbone, views[:GLOBAL_VIEWS])
            teacher = self.teacher_head(torch.cat(large)).float()
        temperature = self.teacher_temperature_now()
        loss = dino_loss(student, teacher.chunk(GLOBAL_VIEWS), self.centre, self.student_temperature, temperature)
        terms = {"teacher_entropy": _entropy((teacher - self.centre) / temperature)}
        if self.training:
            self._move_centre(teacher)
        return MethodOutput(loss, keep(embeddings[0]), terms)

    def backbones(self) -> Sequence[nn.Module]:
        """Online network and teacher; see `Method.backbones`."""
        return [self.backbone, self.teacher_backbone]

    def after_step(self, progress: float) -> None:
        """Let the teacher follow and move the schedules on; see `Method.after_step`."""
        momentum = momentum_at(progress, self.momentum)
        follow(self.teacher_backbone, self.backbone, momentum)
        follow(self.teacher_head, self.head, momentum)
        self.progress.fill_(progress)

    def export_backbone(self) -> nn.Module:
        """The teacher's backbone."""
        return self.teacher_backbone

    @torch.no_grad()
    def _move_centre(self, teacher: Tensor) -> None:
        # Equation 4: the mean over the whole batch, on all ranks.
        self.centre.lerp_(mean_over_ranks(teacher.mean(dim=0)), 1.0 - self.centre_momentum)

    @torch.no_grad()
    def _refuse_unfit_size(self, size: int) -> None:
        modes = [(module, module.training) for module in self.backbone.modules()]
        example = next(self.backbone.parameters())
        try:
            self.backbone.eval()(torch.zeros(1, 3, size, size, device=example.device, dtype=example.dtype))
        except (AssertionError, RuntimeError, ValueError) as error:
            raise IsograftError(
                f"method dino shows the network local views of {size} px, which this backbone cannot take ({error}); "
                "use local_views=0 or another backbone"
            ) from error
        finally:
            for module, training in modes:
                module.training = training


@torch.no_grad()
def _entropy(logits: Tensor) -> Tensor:
    logs = F.log_softmax(logits, dim=-1)
    return -(logs.exp() * logs).sum(dim=-1).mean()


def _allow_other_sizes(backbone: nn.Module) -> None:
    """Let a timm transformer resample its position embedding for other sizes; at its own size nothing changes."""
    from timm.layers import Format, PatchEmbed
    from timm.models.vision_transformer import VisionTransformer

    if isinstance(backbone, VisionTransformer) and type(backbone.patch_embed) is PatchEmbed and not backbone.dynamic_img_size:
        patches: Any = backbone.patch_embed
        backbone.dynamic_img_size = True
        patches.strict_img_size, patches.flatten, patches.output_fmt = False, False, Format.NHWC
