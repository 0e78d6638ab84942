"""What turns an embedding into class scores, and the classifier made of a backbone and such a head."""

from __future__ import annotations

from torch import Tensor, nn

from isograft.errors import IsograftError

HEAD_KINDS = ("linear", "paper")

# 1200 hidden units on 1664 features in the paper's network.
_PAPER_HIDDEN, _PAPER_FEATURES = 1200, 1664


class PaperHead(nn.Module):
    """The paper's head: fully connected, dropout, fully connected, with no activation in between.

    Args:
        features: Channels D of the pooled features.
        classes: Scores K to give.
        hidden: Units of the first layer.
        drop_rate: Share of hidden units set to zero while training.
    """

    def __init__(self, features: int, classes: int, hidden: int, drop_rate: float = 0.5) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, hidden)
        self.drop = nn.Dropout(drop_rate)
        self.fc = nn.Linear(hidden, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Pooled features (B, D) to logits (B, K)."""
        logits: Tensor = self.fc(self.drop(self.hidden(features)))
        return logits


class Classifier(nn.Module):
    """A backbone without its own head, and a head on its pooled features.

    Attributes:
        backbone: (B, 3, S, S) to (B, D).
        head: (B, D) to (B, K).
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Normalised float images (B, 3, S, S) to logits (B, K)."""
        logits: Tensor = self.head(self.embed(images))
        return logits

    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised float images (B, 3, S, S) to logits (B, 1, K) and pooled features (B, 1, D), as an ensemble of one."""
        features = self.embed(images)
        return self.head(features).unsqueeze(1), features.unsqueeze(1)

    def embed(self, images: Tensor) -> Tensor:
        """Normalised float images (B, 3, S, S) to pooled features (B, D)."""
        features: Tensor = self.backbone(images)
        return features


def build_head(kind: str, features: int, classes: int, hidden: int | None = None) -> nn.Module:
    """Make a head (B, features) to (B, classes).

    Args:
        kind: `linear`, or `paper` for the two fully connected layers of the paper's network.
        features: Channels of the pooled features.
        classes: Scores to give.
        hidden: Units between the two layers of `paper` [default: in the paper's proportion, 1200 of 1664 features].

    Raises:
        IsograftError: There is no such kind, or fewer than two classes.
    """
    if classes < 2:
        raise IsograftError(f"a classifier needs at least 2 classes, but there is {classes}; check the label column")
    if kind == "linear":
        head = nn.Linear(features, classes)
        nn.init.trunc_normal_(head.weight, std=0.01)
        nn.init.zeros_(head.bias)
        return head
    if kind == "paper":
        return PaperHead(features, classes, hidden or scaled_hidden(features, _PAPER_HIDDEN, _PAPER_FEATURES))
    raise IsograftError(f"there is no head '{kind}'; choose one of {', '.join(HEAD_KINDS)}")


def scaled_hidden(size: int, hidden: int, reference: int) -> int:
    """Hidden units for `size`, in the proportion `hidden` to `reference`; at least 1."""
    return max(1, round(hidden * size / reference))


class NoHead(nn.Module):
    """The head of no class: with it a backbone gives its embeddings the way a classifier does."""

    def forward(self, features: Tensor) -> Tensor:
        """Pooled features (B, D) to logits (B, 0)."""
        return features[:, :0]
