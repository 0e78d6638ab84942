"""The study file: what is compared, on what, how often. The one definition of its keys."""

# ruff: noqa: PTH100
# Links stay as the user wrote them (Path.resolve follows them).

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator, model_validator

from isograft.errors import IsograftError
from isograft.seal import split_seal, with_seal
from isograft.settings import IDLE, Auto, MethodName, Settings, StrategyName, TableSettings
from isograft.spelling import near, near_or_all
from isograft.study.arms import STARTS, arms_of, is_baseline, parse_chain
from isograft.study.complaints import complaints
from isograft.study.lines import Document, Misplaced, read_document
from isograft.study.parameters import filled_in, with_preset
from isograft.urls import is_url, without_secrets

MetricName = Literal["macro_f1", "macro_roc_auc", "accuracy", "balanced_accuracy"]
Protocol = Literal["clean", "image-split", "leaky-pool", "paper"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,59}")
_FOLDER = "folder"
"""Key of the validation context: the folder that relative paths start at. Without it paths are taken as they are."""


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str | int) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class DataSpec(TableSettings):
    """Images of a pool or task, described as for the verbs."""

    data: str = Field(description="A manifest, a class-per-folder tree, a flat folder or a CSV; seen from the folder of the study.")

    @field_validator("data", "labels")
    @classmethod
    def _found(cls, value: str | Path | None, info: ValidationInfo) -> str | Path | None:
        if value is None or not info.context:
            return value
        if is_url(str(value)):
            raise ValueError(f"{without_secrets(str(value))} lies elsewhere; write a manifest of it with isograft ingest, and name that")
        path = _path(value, info.context[_FOLDER])
        if not path.exists():
            raise ValueError(f"{path} does not exist; paths are seen from the folder of the study")
        return path if isinstance(value, Path) else str(path)


class TaskSpec(DataSpec):
    """A labeled data set on which the arms are compared."""

    title: str = Field("", description="The task in words, for the report.")


class PretrainSpec(Settings):
    """How every pool is trained on, in every arm."""

    method: MethodName = Field("auto", description="Self-supervised method, or supervised on the pool's label_column.")
    epochs: int = Field(10, ge=1, description="Passes over the pool: the same for every arm, so no time limit.")
    batch_size: Annotated[int, Field(ge=2)] | Auto = Field("auto", description="Images per step.")
    lr: Annotated[float, Field(gt=0)] | Auto = Field("auto", description="Peak learning rate of the backbone.")


class FinetuneSpec(Settings):
    """How every arm is trained on a task's labels."""

    strategy: StrategyName = Field("auto", description="Train the head only, everything, head first then everything, or as in the paper.")
    epochs: Annotated[int, Field(ge=1)] | Auto = Field("auto", description="Passes over the training images.")
    batch_size: Annotated[int, Field(ge=2)] | Auto = Field("auto", description="Images per step.")
    lr: Annotated[float, Field(gt=0)] | Auto = Field("auto", description="Peak learning rate of the backbone.")

    @model_validator(mode="after")
    def _nothing_idle(self) -> FinetuneSpec:
        for name, why in IDLE.get(self.strategy, {}).items():
            if (value := getattr(self, name, "auto")) != "auto":
                raise Misplaced((name,), f"{value} would be unused with strategy {self.strategy}: {why}; leave it out, or choose full")
        return self


class StudySpec(Settings):
    """Arms compared on tasks over label budgets and repeats."""

    title: str = Field(description="What is asked, for the report.")
    pools: dict[str, DataSpec] = Field({}, description="Unlabeled images by name, for the steps pool:NAME.")
    tasks: dict[str, TaskSpec] = Field(min_length=1, description="Labeled data sets by name; every arm is tested on each.")
    arms: dict[str, Words] = Field(min_length=1, description="Chains by name, such as double: [imagenet, pool:skin, task:lesions].")
    labels_per_class: Annotated[tuple[Annotated[int, Field(ge=1)] | Literal["all"], ...], BeforeValidator(_listed)] = Field(
        (10, 25, 50, "all"), min_length=1, description="Label budgets; smaller draws are inside larger ones."
    )
    repeats: int = Field(5, ge=1, description="Splits of every task, each with its own seed.")
    test_fraction: float = Field(0.4, gt=0, lt=1, description="Share of the groups held out for the test.")
    seed: int = Field(0, ge=0, description="Seed of the first repeat; each further one adds 1.")
    backbones: Words = Field(
        ("tf_efficientnet_lite0",), min_length=1, description="Any timm model names, or alzubaidi_dcnn, the network of the paper."
    )
    backbone_args: Words = Field((), description="Arguments of every backbone as key=value, for example width=8.")
    image_size: Annotated[int, Field(ge=8, le=2048)] | Auto = Field("auto", description="Side of the square the networks see, in pixels.")
    pretrain: PretrainSpec = Field(default_factory=lambda: PretrainSpec.model_validate({}), description="How every pool is trained on.")
    finetune: FinetuneSpec = Field(
        default_factory=lambda: FinetuneSpec.model_validate({}), description="How every arm is trained on a task."
    )
    metric: MetricName = Field("macro_f1", description="The figure that the verdict rests on.")
    baselines: Words = Field((), description="Arms that others are compared with [default: those that are only scratch or imagenet].")
    protocols: Annotated[tuple[Protocol, ...], BeforeValidator(_listed)] = Field(
        ("clean",), min_length=1, description="Grouped splits and a pool without test images (clean), or what that guards against."
    )

    @field_validator("pools", "tasks", "arms")
    @classmethod
    def _named(cls, entries: dict[str, Any]) -> dict[str, Any]:
        for name in entries:
            if not _NAME.fullmatch(name):
                raise Misplaced((name,), "a name consists of letters, digits and . _ + - (60 at most), and begins with a letter or digit")
        return entries

    @field_validator("labels_per_class", "backbones", "backbone_args", "protocols", "baselines")
    @classmethod
    def _different(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        for index, value in enumerate(values):
            if value in values[:index]:
                raise Misplaced((index,), f"{value} is given twice; keep one")
        return values

    @field_validator("arms")
    @classmethod
    def _chained(cls, arms: dict[str, tuple[str, ...]], info: ValidationInfo) -> dict[str, tuple[str, ...]]:
        if not {"pools", "tasks"} <= info.data.keys():
            return arms  # they are wrong themselves, which is said already
        known = {"pool": list(info.data["pools"]), "task": list(info.data["tasks"])}
        folder = info.context[_FOLDER] if info.context else None
        checked = {name: _checked(name, chain, known, folder) for name, chain in arms.items()}
        seen: dict[tuple[Any, ...], str] = {}
        for name, chain in checked.items():
            if (other := seen.setdefault(parse_chain(chain), name)) != name:
                raise Misplaced((name,), f"this is the same chain as {other}; keep one")
        return checked

    @field_validator("baselines")
    @classmethod
    def _compared(cls, baselines: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if "arms" not in info.data:
            return baselines
        arms: Mapping[str, tuple[str, ...]] = info.data["arms"]
        for index, name in enumerate(baselines):
            if name not in arms:
                raise Misplaced((index,), f"there is no arm {name}{near_or_all(name, arms)}")
        return baselines or tuple(name for name, chain in arms.items() if is_baseline(chain))

    @model_validator(mode="after")
    def _comparable(self) -> StudySpec:
        if not self.baselines:
            raise Misplaced(
                ("arms",), "no arm is a baseline; add scratch: [] or imagenet: [imagenet], or name those to compare with in baselines"
            )
        return self


def read_spec(path: Path, preset: str | None = None, parameters: Sequence[str] = ()) -> StudySpec:
    """Read and check a study file.

    Args:
        path: The YAML file; relative paths in it are seen from its folder.
        preset: The preset to apply; it comes before the file's own values.
        parameters: `name=value`; they come before the preset's and the file's values.

    Returns:
        The study with absolute paths and its baselines filled in. The images and tables it names exist, and so do the backbones.

    Raises:
        IsograftError: Whatever is wrong with it, by file and line.
    """
    document = read_document(path)
    keys = [*StudySpec.model_fields, "parameters"]
    if not isinstance(document.data, dict):
        raise document.error((), f"a study is a mapping with the keys {', '.join(keys)}; isograft study --init FILE writes a template")
    filled = filled_in(with_preset(document, preset, keys), parameters, document.data)
    try:
        spec = StudySpec.model_validate(filled.data, context={_FOLDER: path.parent})
    except ValidationError as error:
        raise IsograftError(complaints(error, StudySpec, filled)) from None
    _check_backbones(spec, filled)
    return spec


def _check_backbones(spec: StudySpec, document: Document) -> None:
    """Refuse networks that do not exist, and those that leave a task without a baseline; checked last, as it imports torch."""
    from isograft.networks.backbones import parse_arguments, require_backbone

    place = "backbone_args"
    try:
        parse_arguments(spec.backbone_args)
        place = "backbones"
        for backbone in spec.backbones:
            require_backbone(backbone)
    except IsograftError as error:
        raise document.error((place,), f"{place}: {error}") from None
    for backbone in spec.backbones:
        for task in spec.tasks:
            if not set(spec.baselines) & arms_of(spec, task, backbone).keys():
                text = f"no baseline is left for the task {task} with the backbone {backbone}; add the arm scratch: []"
                raise document.error(("arms",), text)


def _path(text: str | Path, folder: Path) -> Path:
    return Path(os.path.abspath(folder / Path(text).expanduser()))


def _checked(arm: str, chain: tuple[str, ...], known: Mapping[str, list[str]], folder: Path | None) -> tuple[str, ...]:
    """A chain all of whose steps exist, with an absolute path where it starts from a file."""
    try:
        steps = parse_chain(chain)
    except Misplaced as error:
        raise Misplaced((arm, *error.place), str(error)) from None
    for step in steps:
        if step.kind != "start" and step.name not in known[step.kind]:
            hint = near_or_all(step.name, known[step.kind]) or f"; describe it under {step.kind}s"
            raise Misplaced((arm, chain.index(str(step))), f"there is no {step.kind} {step.name}{hint}")
    if folder is None or not chain or steps[0].name in STARTS or steps[0].kind != "start":
        return chain
    place, seal = split_seal(chain[0])
    path = _path(str(place), folder)
    if not path.exists():
        what = "is neither scratch, imagenet, pool:NAME, task:NAME nor a model folder or weights file"
        raise Misplaced((arm, 0), f"'{chain[0]}' {what}{near(chain[0], [*STARTS])}")
    return (with_seal(path, seal), *chain[1:])
