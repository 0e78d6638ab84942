"""MAE: paint the hidden three quarters of an image from the visible quarter (arXiv:2111.06377)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from isograft.errors import IsograftError
from isograft.ssl.gather import rank
from isograft.ssl.masking import random_keys, split_patches
from isograft.ssl.method import Method, MethodOutput, keep, require_views
from isograft.ssl.precision import in_float32

if TYPE_CHECKING:
    from isograft.data.augment import ViewPolicy
    from isograft.data.loader import ViewSpec

APPEARANCE = ("brightness", "contrast", "saturation", "hue", "stain", "grey", "blur", "solarize")
"""Fields of a view policy that change the pixels but not their places."""


def patchify(images: Tensor, patch: tuple[int, int]) -> Tensor:
    """Cut images into patches.

    Args:
        images: (B, C, H, W) with H and W multiples of the patch.
        patch: Height and width of a patch in pixels.

    Returns:
        (B, N, patch pixels * C): patches row by row; in a patch pixels row by row, channels last.
    """
    batch, channels, height, width = images.shape
    rows, columns = height // patch[0], width // patch[1]
    cut = images.reshape(batch, channels, rows, patch[0], columns, patch[1])
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * columns, patch[0] * patch[1] * channels)


@in_float32
def reconstruction_loss(predictions: Tensor, patches: Tensor, eps: float = 1e-6) -> Tensor:
    """Mean squared error against patches scaled each to mean 0 and variance 1 (arXiv:2111.06377, section 3).

    Args:
        predictions: (B, M, P) for the hidden patches.
        patches: (B, M, P) their pixels.
        eps: Added to a patch's variance, so that a blank patch has target 0.

    Returns:
        Scalar >= 0; 1 is about what predicting nothing costs.
    """
    mean, variance = patches.mean(dim=-1, keepdim=True), patches.var(dim=-1, keepdim=True)
    return (predictions - (patches - mean) / (variance + eps).sqrt()).square().mean()


def sine_positions(rows: int, columns: int, width: int, device: torch.device | None = None) -> Tensor:
    """Fixed position embedding: sines and cosines of the column, then of the row (arXiv:1706.03762, section 3.5, in 2-D).

    Args:
        rows: Rows of the grid.
        columns: Columns of the grid.
        width: Width of the embedding, a multiple of 4.
        device: Where to make it.

    Returns:
        float32 (rows * columns, width) in [-1, 1], row by row.
    """
    quarter = width // 4
    frequency = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    down, across = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [place.reshape(-1, 1) * frequency for place in (across, down)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1).float().to(device)


class MAEDecoder(nn.Module):
    """A narrow transformer that sees the visible patches' codes and a mask token for each hidden patch."""

    def __init__(self, features: int, width: int, depth: int, heads: int, pixels: int) -> None:
        super().__init__()
        from timm.models.vision_transformer import Block

        self.enter = nn.Linear(features, width)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.blocks = nn.Sequential(*[Block(width, heads, qkv_bias=True) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, pixels)
        nn.init.normal_(self.mask_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, codes: Tensor, visible: Tensor, hidden: Tensor, grid: tuple[int, int]) -> Tensor:
        """Predict the hidden patches.

        Args:
            codes: (B, prefix + visible, features) from the encoder, prefix tokens (class, registers) first.
            visible: (B, visible) patch indices.
            hidden: (B, M) patch indices.
            grid: Rows and columns of patches.

        Returns:
            (B, M, pixels) in the order of `hidden`.
        """
        positions = sine_positions(*grid, self.mask_token.shape[0], self.mask_token.device)
        seen = self.enter(codes)
        prefix, patches = seen.split([seen.shape[1] - visible.shape[1], visible.shape[1]], dim=1)
        # Attention does not mind the order of tokens, so the patches need not go back to their places.
        tokens = torch.cat([prefix, patches + positions[visible], self.mask_token + positions[hidden]], dim=1)
        out: Tensor = self.leave(self.norm(self.blocks(tokens)[:, -hidden.shape[1] :]))
        return out


class MAE(Method):
    """Masked autoencoder for timm's VisionTransformer, with a light decoder."""

    name = "mae"
    citation = "He K. et al. Masked Autoencoders Are Scalable Vision Learners. CVPR 2022. arXiv:2111.06377"

    draws: Tensor

    def __init__(
        self, backbone: nn.Module, features: int, mask_ratio: float = 0.75, width: int = 192, depth: int = 2, seed: int = 0
    ) -> None:
        """Add the decoder.

        Args:
            backbone: A timm VisionTransformer with position embedding and plain patch embedding, with or without class token.
            features: Its embedding width.
            mask_ratio: Share of patches hidden, in (0, 1).
            width: Width of the decoder, a multiple of 4.
            depth: Blocks of the decoder.
            seed: Seed of the masks.

        Raises:
            IsograftError: Another kind of backbone.
        """
        super().__init__(backbone, features)
        self.patch = _patch_size(backbone)
        self.mask_ratio, self.seed = mask_ratio, seed
        heads = next(count for count in range(max(width // 64, 1), 0, -1) if width % count == 0)
        self.decoder = MAEDecoder(_tokens_width(backbone), width, depth, heads, self.patch[0] * self.patch[1] * 3)
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    def view_specs(self, size: int, policy: ViewPolicy) -> list[ViewSpec]:
        """One view at full size; it moves, but keeps its colours and sharpness (arXiv:2111.06377, table 1e)."""
        from isograft.data.loader import ViewSpec

        return [ViewSpec(count=1, size=size, policy=policy.model_copy(update=dict.fromkeys(APPEARANCE, 0.0)))]

    def step(self, views: Sequence[Tensor], labels: Tensor | None = None) -> MethodOutput:
        """Reconstruction error of the hidden patches of the first view; see `Method.step`."""
        require_views(self, views, 1)
        images = views[0]
        batch, _, height, width = images.shape
        grid = (height // self.patch[0], width // self.patch[1])
        if grid[0] * grid[1] < 2:
            raise IsograftError(
                f"method mae needs at least 2 patches of {self.patch} px but the views are {height}x{width}; use larger images"
            )
        keys = random_keys(self.seed, self.draws, rank() * batch, batch, grid[0] * grid[1])
        visible, hidden = split_patches(keys, self.mask_ratio)
        codes = self.encode(images, visible)
        predictions = self.decoder(self._last_norm(codes), visible, hidden, grid)
        loss = reconstruction_loss(predictions, _pick(patchify(images, self.patch), hidden))
        if self.training:
            self.draws += 1
        with torch.no_grad():
            embedding = self.backbone.forward_head(codes, pre_logits=True)  # type: ignore[operator]
        return MethodOutput(loss, keep(embedding))

    def by_image(self) -> Sequence[nn.Module]:
        """The transformers: the backbone is not called as a whole."""
        return [self.backbone.blocks, self.decoder.blocks]  # type: ignore[list-item]

    def encode(self, images: Tensor, visible: Tensor) -> Tensor:
        """Run the encoder on the visible patches only.

        Args:
            images: float (B, 3, H, W).
            visible: (B, n) patch indices.

        Returns:
            (B, prefix + n, width) tokens, as `forward_features` of the backbone returns them.
        """
        vit: Any = self.backbone
        tokens = vit._pos_embed(vit.patch_embed(images))
        prefix = tokens[:, : vit.num_prefix_tokens]
        patches = _pick(tokens[:, vit.num_prefix_tokens :], visible)
        codes: Tensor = vit.norm(vit.blocks(vit.norm_pre(torch.cat([prefix, patches], dim=1))))
        return codes

    def _last_norm(self, codes: Tensor) -> Tensor:
        # A backbone that averages its tokens has its norm after the average, as fc_norm: the decoder gets its codes
        # through that norm too, or it would not be trained.
        vit: Any = self.backbone
        return vit.fc_norm(codes) if isinstance(vit.norm, nn.Identity) else codes


def _pick(tokens: Tensor, places: Tensor) -> Tensor:
    """Tokens (B, N, D) at places (B, n) -> (B, n, D)."""
    return tokens.gather(1, places.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def _patch_size(backbone: nn.Module) -> tuple[int, int]:
    from timm.layers import PatchEmbed
    from timm.models.vision_transformer import VisionTransformer

    if not isinstance(backbone, VisionTransformer) or type(backbone.patch_embed) is not PatchEmbed or backbone.pos_embed is None:
        raise IsograftError(
            f"method mae hides patches from a plain vision transformer and cannot work with {type(backbone).__name__}; "
            "choose a backbone such as vit_tiny_patch16_224, or another method such as simclr or dino"
        )
    height, width = backbone.patch_embed.patch_size
    return int(height), int(width)


def _tokens_width(backbone: nn.Module) -> int:
    return int(getattr(backbone, "embed_dim"))  # noqa: B009  (mypy: nn.Module attributes are Tensor | Module)
