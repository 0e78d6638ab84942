"""Options of the verbs that train: pretrain and finetune."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from isograft.settings.base import POSITIONAL, Duration, flag
from isograft.settings.data import DataSettings

Auto = Literal["auto"]
MethodName = Literal["auto", "simclr", "vicreg", "byol", "dino", "mae", "supervised"]
StrategyName = Literal["auto", "probe", "full", "probe-then-full", "paper"]
DomainName = Literal["auto", "general", "dermoscopy", "histology", "radiograph", "grey"]
PrecisionName = Literal["auto", "fp32", "bf16"]

CACHE_LIMIT_GB = 20.0
"""Size of all caches of decoded images together, in 10**9 bytes, unless something else is asked for."""

_SOLVED = "the head is solved in one go, on the images as they are"
_FIXED = "the paper trains a fixed number of epochs"
IDLE: dict[str, dict[str, str]] = {
    "probe": dict.fromkeys(("epochs", "batch_size", "lr", "domain", "precision", "val", "val_fraction"), _SOLVED),
    "paper": {"domain": "the paper shows the images as they are", "val": _FIXED, "val_fraction": _FIXED},
}
"""The options a fine-tuning strategy has no use for, and why."""


class TrainingSettings(DataSettings):
    """Options shared by pretrain and finetune."""

    data: str = Field(description="A manifest, a class-per-folder tree, a flat folder or a CSV.", json_schema_extra=POSITIONAL)
    out: Path = Field(description="The model folder to write; it must not exist yet.")
    init: str = Field(description="Start from: scratch, imagenet, a model folder, a weights file or hf-hub:ID.")
    backbone: str = Field("auto", description="Any timm model name, or alzubaidi_dcnn, the network of the paper.")
    backbone_arg: tuple[str, ...] = Field((), description="Argument of the backbone as key=value, for example width=8; repeatable.")
    image_size: Annotated[int, Field(ge=8, le=2048)] | Auto = Field("auto", description="Side of the square the network sees, in pixels.")
    epochs: Annotated[int, Field(ge=1)] | Auto = Field("auto", description="Passes over the training images.")
    batch_size: Annotated[int, Field(ge=2)] | Auto = Field("auto", description="Images per step, of all processes together.")
    lr: Annotated[float, Field(gt=0)] | Auto = Field("auto", description="Peak learning rate of the backbone.")
    domain: DomainName = Field("auto", description="Preset of image variations that leave the meaning unchanged.")
    precision: PrecisionName = Field("auto", description="Arithmetic of the network; auto measures which is faster here.")
    plan: Path | None = Field(None, description="JSON file of decisions to take in place of automatic ones, or another run's run.json.")
    seed: int = Field(0, ge=0, description="Seed of every draw: same seed, plan and machine give the same bytes.")
    resume: bool = Field(False, description="Continue the interrupted run in --out; nothing else may change.")

    @property
    def needs_labels(self) -> bool:
        """Whether images without a label are of no use."""
        return True

    @property
    def fixed(self) -> dict[str, Any]:
        """What may not change when a run is resumed, JSON-ready: all but its place and that of the cache."""
        return self.model_dump(mode="json", exclude={"resume", "out", "cache_dir"})


class PretrainSettings(TrainingSettings):
    """Options of `pretrain`."""

    max_time: Duration | None = Field(None, description="Longest time the whole command may take, for example 30m.")
    method: MethodName = Field("auto", description="Self-supervised method, or supervised on --label-column.")
    init: str = Field("scratch", description="Start from: scratch, imagenet, a model folder, a weights file or hf-hub:ID.")
    cache_limit: float = Field(
        CACHE_LIMIT_GB, ge=0, description="Most GB of decoded images to keep; a pool in tar shards that needs more is read from them."
    )

    @property
    def needs_labels(self) -> bool:
        """Only supervised pretraining does."""
        return self.method == "supervised"

    @property
    def fixed(self) -> dict[str, Any]:
        """The limit of the cache is named only where it is another than ever: runs of versions that had no choice can still be resumed."""
        fixed = super().fixed
        return fixed if self.cache_limit != CACHE_LIMIT_GB else {name: value for name, value in fixed.items() if name != "cache_limit"}


class FinetuneSettings(TrainingSettings):
    """Options of `finetune`."""

    val: str | None = Field(None, description="Labeled data for validation, in place of a split of DATA; columns and --where apply too.")
    strategy: StrategyName = Field("auto", description="Train the head only, everything, head first then everything, or as in the paper.")
    labels_per_class: int | None = Field(
        None, ge=1, description="Use only this many training labels per class; smaller draws are inside larger ones."
    )
    test_fraction: float = Field(0.2, ge=0, lt=1, description="Share of the groups held out for evaluate.")
    val_fraction: Annotated[float, Field(ge=0, lt=1)] | Auto = Field(
        "auto", description="Share of the training groups used to choose when to stop."
    )
    operating_point: tuple[str, ...] = Field(
        (), description="Threshold to choose on held-out images, such as 'screening: melanoma sensitivity >= 0.95'; repeatable."
    )
    coverage: float = Field(0.9, gt=0.5, lt=1, description="Share of images whose class the prediction set shall hold.")
    keep_thumbnails: bool = Field(
        False, description="Keep small pictures of the labeled images in the model folder, to be shown as similar cases."
    )
    folds: int | None = Field(None, ge=2, le=20, description="Train one network per fold on the other folds; they answer as an ensemble.")

    @property
    def fixed(self) -> dict[str, Any]:
        """Thumbnails are named only where they are kept: runs of versions that could not keep any can still be resumed."""
        fixed = super().fixed
        return fixed if self.keep_thumbnails else {name: value for name, value in fixed.items() if name != "keep_thumbnails"}

    @model_validator(mode="after")
    def _nothing_idle(self) -> FinetuneSettings:
        given = {name: value for name, value in self if value not in (None, "auto", 0)}
        for name, why in IDLE.get(self.strategy, {}).items():
            if name in given:
                option = f"{flag(name)} {given[name]}"
                raise ValueError(
                    f"{option} would be unused with --strategy {self.strategy}: {why}; leave it out, or choose --strategy full"
                )
        for name in ("val", "val_fraction"):
            if self.folds is not None and name in given:
                option = f"{flag(name)} {given[name]}"
                raise ValueError(f"{option} would be unused with --folds, where every image is held out once; leave one of them out")
        if {"val", "val_fraction"} <= given.keys():
            raise ValueError(f"--val-fraction {self.val_fraction} would be unused, as --val {self.val} is given; leave one of them out")
        return self
