"""Every option of every verb, defined once: name, type, default, help and bounds.

The command line (`cli.py`), the Python signatures (`isograft.ingest(...)`) and the reference
documentation are generated from these classes. A field marked `POSITIONAL` is positional on the
command line; all others are keyword options (`image_size` becomes `--image-size`). `NEW_FILE` marks a file
to be written whose name is otherwise that of an input.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from isograft.urls import is_url

POSITIONAL: dict[str, Any] = {"positional": True}
NEW_FILE: dict[str, Any] = {"new_file": True}

Auto = Literal["auto"]
MethodName = Literal["auto", "simclr", "vicreg", "byol", "dino", "mae", "supervised"]
StrategyName = Literal["auto", "probe", "full", "probe-then-full", "paper"]
DomainName = Literal["auto", "general", "dermoscopy", "histology", "radiograph", "grey"]
PrecisionName = Literal["auto", "fp32", "bf16"]

_SOLVED = "the head is solved in one go, on the images as they are"
_FIXED = "the paper trains a fixed number of epochs"
IDLE: dict[str, dict[str, str]] = {
    "probe": dict.fromkeys(("epochs", "batch_size", "lr", "domain", "precision", "val", "val_fraction"), _SOLVED),
    "paper": {"domain": "the paper shows the images as they are", "val": _FIXED, "val_fraction": _FIXED},
}
"""The options a fine-tuning strategy has no use for, and why."""

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")


def parse_duration(text: Any) -> Any:
    """Turn `90s`, `30m`, `1h30m` or a number of seconds into seconds; `None` stays `None`."""
    if text is None or isinstance(text, int | float):
        return text
    match = _DURATION.fullmatch(str(text).strip().lower())
    if match is None or not any(match.groups()):
        raise ValueError(f"'{text}' is not a duration; write for example 90s, 30m or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


Duration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0)]


def parse_place(value: Any) -> Any:
    """A path as `Path`; a URL stays text, since `Path` would make `s3:/bucket` of it."""
    return Path(value) if isinstance(value, str) and not is_url(value) else value


Place = Annotated[Path | str, BeforeValidator(parse_place)]
"""Where files lie: a path, or a URL."""


def flag(name: str) -> str:
    """The command-line spelling of an option: `image_size` becomes `--image-size`."""
    return "--" + name.replace("_", "-")


class Settings(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class ContentSettings(Settings):
    """How files are read that hold more than an image: whole-slide images and DICOM."""

    tile_size: int = Field(256, ge=16, le=4096, description="Slides: side of a tile in pixels.")
    microns_per_pixel: float = Field(0.5, gt=0, le=1000, description="Slides: resolution of the tiles in µm per pixel.")
    tissue: float = Field(0.5, ge=0, le=1, description="Slides: least share of tissue in a tile.")
    slide_resolution: Annotated[float, Field(gt=0, le=1000)] | None = Field(
        None, description="Slides: µm per pixel of the finest level [default: as the slide states it]."
    )
    window: str | None = Field(None, description="DICOM: show grey through the window of this name, or CENTRE/WIDTH [default: first].")
    hash_key: Path | None = Field(None, description="DICOM: file with the key of patient hashes [default: ~/.config/isograft/key].")


class IngestSettings(ContentSettings):
    """Decode every image once and write a manifest: one row per image, good or bad."""

    source: tuple[Place, ...] = Field(
        min_length=1,
        description="Folders (class per folder, or flat), image files, tar shards, or their URLs (https, s3, gs); or a CSV of URLs.",
        json_schema_extra=POSITIONAL,
    )
    out: Path = Field(description="The manifest to write, ending in .parquet.")
    labels: Path | None = Field(None, description="CSV with one row per image: labels, groups, sources and any further columns.")
    path_column: str | None = Field(None, description="CSV column naming the file, with or without folder or extension [default: found].")
    label_column: str | None = Field(None, description="CSV column holding the class.")
    group_column: str | None = Field(None, description="CSV column holding what must stay on one side of a split: patient or lesion.")
    source_column: str | None = Field(None, description="CSV column holding the origin: clinic, scanner or dataset.")
    where: str | None = Field(None, description="Keep only CSV rows for which this holds, for example \"dataset != 'rosendahl'\".")
    drop_labels: bool = Field(False, description="Leave the labels out of the manifest, so that it can only serve as an unlabeled pool.")
    allow_missing: bool = Field(False, description="Go on when CSV and files do not match one to one; what is missing is still listed.")
    max_megapixels: float = Field(200.0, gt=0, description="Larger images are recorded as too_large and not decoded.")
    threads: int | None = Field(None, ge=1, description="Decoding threads [default: one per core].")


class TableSettings(Settings):
    """How data is read when it is not a manifest yet."""

    labels: Path | None = Field(None, description="CSV with labels, groups and sources, when DATA is a folder.")
    path_column: str | None = Field(None, description="CSV column naming the file [default: found].")
    label_column: str | None = Field(None, description="Column holding the class [default: the manifest's label].")
    group_column: str | None = Field(None, description="Column holding the patient or lesion [default: the manifest's group].")
    where: str | None = Field(None, description="Use only rows for which this holds, for example \"sex == 'female'\".")


class DataSettings(TableSettings):
    """Options shared by the verbs that take DATA."""

    cache_dir: Path | None = Field(None, description="Folder for decoded images, safe to delete [default: ~/.cache/isograft].")
    threads: int | None = Field(None, ge=1, description="Threads for decoding and augmentation [default: one per core].")


class TrainingSettings(DataSettings):
    """Options shared by pretrain and finetune."""

    data: str = Field(description="A manifest, a class-per-folder tree, a flat folder or a CSV.", json_schema_extra=POSITIONAL)
    out: Path = Field(description="The model folder to write; it must not exist yet.")
    init: str = Field(description="Start from: scratch, imagenet, a model folder, a weights file or hf-hub:ID.")
    backbone: str = Field("auto", description="Any timm model name, or alzubaidi_dcnn, the network of the paper.")
    backbone_arg: tuple[str, ...] = Field((), description="Argument of the backbone as key=value, for example width=8; repeatable.")
    image_size: Annotated[int, Field(ge=8, le=2048)] | Auto = Field("auto", description="Side of the square the network sees, in pixels.")
    epochs: Annotated[int, Field(ge=1)] | Auto = Field("auto", description="Passes over the training images.")
    batch_size: Annotated[int, Field(ge=2)] | Auto = Field("auto", description="Images per step.")
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
    """Train a network on unlabeled images of your own domain."""

    max_time: Duration | None = Field(None, description="Longest time the whole command may take, for example 30m.")
    method: MethodName = Field("auto", description="Self-supervised method, or supervised on --label-column.")
    init: str = Field("scratch", description="Start from: scratch, imagenet, a model folder, a weights file or hf-hub:ID.")

    @property
    def needs_labels(self) -> bool:
        """Only supervised pretraining does."""
        return self.method == "supervised"


class FinetuneSettings(TrainingSettings):
    """Train a classifier on few labeled images, from any start."""

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
    folds: int | None = Field(None, ge=2, le=20, description="Train one network per fold on the other folds; they answer as an ensemble.")

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


class EvaluateSettings(DataSettings):
    """Score a classifier on images it has never seen, or refuse."""

    model: Path = Field(description="The model folder.", json_schema_extra=POSITIONAL)
    data: str | None = Field(None, description="Labeled data [default: the model's own held-out test split].", json_schema_extra=POSITIONAL)
    out: Path = Field(description="The folder to write: metrics.json, predictions and report.html.")
    tta: bool = Field(False, description="Average over the turns and mirror images that leave an image's meaning unchanged.")
    against: Path | None = Field(None, description="Another model folder, to compare with on the same images.")
    prevalence: tuple[str, ...] = Field(
        (), description="Share of a class among your patients, as CLASS=SHARE, for predictive values; repeatable."
    )
    allow_leakage: bool = Field(False, description="Score seen images too; every output is stamped as leaked.")

    @property
    def prevalences(self) -> dict[str, float]:
        """The shares that `--prevalence` states, by class."""
        return {name.strip(): float(share) for name, _, share in (pair.rpartition("=") for pair in self.prevalence)}

    @model_validator(mode="after")
    def _shares(self) -> EvaluateSettings:
        for pair in self.prevalence:
            name, _, share = pair.rpartition("=")
            try:
                sound = bool(name.strip()) and 0 < float(share) < 1
            except ValueError:
                sound = False
            if not sound:
                raise ValueError(f"--prevalence {pair} is not CLASS=SHARE with a share between 0 and 1; write for example melanoma=0.02")
        return self

    @model_validator(mode="after")
    def _data_described(self) -> EvaluateSettings:
        for name in ("labels", "path_column", "label_column", "group_column", "cache_dir"):
            if self.data is None and getattr(self, name) is not None:
                raise ValueError(f"{flag(name)} is about DATA, but none is given: leave it out, or name the data to score")
        return self


class InputSettings(ContentSettings):
    """Options shared by the verbs that ask a model about images."""

    model: Path = Field(description="The model folder.", json_schema_extra=POSITIONAL)
    input: str = Field(
        description="An image, a slide, a folder, a tar shard, a URL of one, a CSV or a manifest.", json_schema_extra=POSITIONAL
    )
    path_column: str | None = Field(None, description="Column naming the file, when INPUT is a CSV [default: found].")
    where: str | None = Field(None, description="Use only rows for which this holds, for example \"sex == 'female'\".")
    threads: int | None = Field(None, ge=1, description="Threads for decoding [default: one per core].")

    @property
    def needs_file(self) -> bool:
        """Whether the column `file` is asked for even where every file holds one image."""
        return False


class PredictSettings(InputSettings):
    """Classify images: one row per input, whatever its state."""

    out: Path = Field(description="The table to write, ending in .csv or .parquet.")
    tta: bool = Field(False, description="Average over the turns and mirror images that leave an image's meaning unchanged.")
    heatmaps: Path | None = Field(None, description="Folder to write a picture and an array to for each image: what speaks for the class.")
    pool_by: str | None = Field(None, description="One answer for all images with one value of this column, for example file or group.")
    top_k: int | None = Field(None, ge=1, description="With --pool-by: per class, average the K images most sure of it [default: all].")

    @property
    def needs_file(self) -> bool:
        """Images of one file may be answered together."""
        return self.pool_by == "file"

    @model_validator(mode="after")
    def _pooled(self) -> PredictSettings:
        if self.top_k is not None and self.pool_by is None:
            raise ValueError(f"--top-k {self.top_k} is about images answered together; name their column with --pool-by, for example file")
        return self

    @model_validator(mode="after")
    def _table_format(self) -> PredictSettings:
        if self.out.suffix.lower() not in {".csv", ".parquet"}:
            raise ValueError(f"--out {self.out} must end in .csv or .parquet")
        return self


ExplanationName = Literal["auto", "grad-cam", "rollout", "occlusion", "integrated-gradients"]


class ExplainSettings(InputSettings):
    """Show where in an image a classifier finds what speaks for a class, and which training images look alike to it."""

    out: Path = Field(description="The folder to write: explain.html, explain.csv, and a picture and an array per image.")
    method: ExplanationName = Field("auto", description="How the heatmap is made; auto chooses by the network, and says why.")
    target: str | None = Field(None, description="The class to explain [default: the predicted one].")
    similar: int = Field(6, ge=0, le=24, description="Labeled training images to show that are most alike to the model; 0 for none.")
    features: bool = Field(False, description="Show the first filters and the feature maps of a convolutional network, too.")


AuditKind = Literal["leak", "conflict", "duplicate", "corrupt", "shortcut", "unusual", "classes"]
AUDIT_KINDS: tuple[AuditKind, ...] = get_args(AuditKind)
"""What an audit can find, as `--fail-on` names it, the gravest first."""


class AuditSettings(Settings):
    """Look at images before training: broken files, copies, leaks between data sets or into a model, shortcuts."""

    data: tuple[str, ...] = Field(
        min_length=1, description="Manifests, folders or CSVs; what they share is looked for too.", json_schema_extra=POSITIONAL
    )
    model: Path | None = Field(None, description="Model folder: find the images that it, or an ancestor of it, has seen.")
    out: Path | None = Field(None, description="The folder to write: audit.html and audit.json; without it the findings are only printed.")
    fail_on: str | None = Field(None, description=f"Exit code 3 if one of these is found: {','.join(AUDIT_KINDS)}.")
    cache_dir: Path | None = Field(None, description="Folder for decoded images, safe to delete [default: ~/.cache/isograft].")
    threads: int | None = Field(None, ge=1, description="Threads for decoding [default: one per core].")

    @property
    def fail_kinds(self) -> frozenset[str]:
        """The kinds that `--fail-on` names."""
        return frozenset(kind.strip() for kind in (self.fail_on or "").split(",") if kind.strip())

    @model_validator(mode="after")
    def _known_kinds(self) -> AuditSettings:
        if self.fail_on is not None and not self.fail_kinds:
            raise ValueError(f"--fail-on names nothing; name one or several of {', '.join(AUDIT_KINDS)}, separated by commas")
        for kind in sorted(self.fail_kinds):
            if kind not in AUDIT_KINDS:
                raise ValueError(f"--fail-on {kind} is nothing an audit finds; it finds {', '.join(AUDIT_KINDS)}")
        twice = [one for one in self.data if self.data.count(one) > 1]
        if twice:
            raise ValueError(f"DATA names {twice[0]} twice; name each data set once")
        return self


class StudySettings(Settings):
    """Compare starts, pools and chains on your tasks, over label budgets and splits, with a verdict."""

    study: Path | None = Field(None, description="The study file (YAML); --init writes a template.", json_schema_extra=POSITIONAL)
    out: Path | None = Field(None, description="The folder to write: results.parquet, report.html, and each job's output.")
    init: Path | None = Field(
        None, description="Write a commented template of a study file here, and nothing else.", json_schema_extra=NEW_FILE
    )
    preset: str | None = Field(None, description="Preset of the study file to apply, for example fast.")
    param: tuple[str, ...] = Field((), description="Parameter of the study file as name=value, for example data=/images; repeatable.")
    jobs: int | None = Field(None, ge=1, description="Jobs at a time, each in its own process [default: one per core].")
    engine: Literal["local", "ray"] = Field("local", description="Where jobs run: on this machine, or on a Ray cluster.")
    dry_run: bool = Field(False, description="List the jobs and what is left out, and run nothing.")
    resume: bool = Field(False, description="Continue the study in --out; finished jobs are kept.")
    cache_dir: Path | None = Field(None, description="Folder for decoded images, safe to delete [default: ~/.cache/isograft].")

    @model_validator(mode="after")
    def _one_thing(self) -> StudySettings:
        if self.init is not None:
            for name, field in type(self).model_fields.items():
                if name != "init" and (value := getattr(self, name)) != field.default:
                    what = f"STUDY {value}" if name == "study" else _given_option(name, value)
                    raise ValueError(f"{what} would be unused with --init, which only writes a template; leave one of them out")
            if self.init.suffix.lower() not in {".yaml", ".yml"}:
                raise ValueError(f"--init {self.init} must end in .yaml or .yml")
        elif self.study is None:
            raise ValueError("STUDY is required: the study file; isograft study --init study.yaml writes a template of one")
        elif self.out is None and not self.dry_run:
            raise ValueError("--out is required: the folder to write; --dry-run only lists the jobs and needs none")
        return self

    @model_validator(mode="after")
    def _named_values(self) -> StudySettings:
        names = [pair.partition("=")[0].strip() for pair in self.param]
        for index, (pair, name) in enumerate(zip(self.param, names, strict=True)):
            if not name or "=" not in pair:
                raise ValueError(f"--param {pair} is not name=value; write for example --param data=/images")
            if name in names[:index]:
                raise ValueError(f"--param gives {name} twice; keep one")
        return self


def _given_option(name: str, value: Any) -> str:
    """An option as it was given on the command line."""
    option = flag(name)
    if isinstance(value, tuple):
        return " ".join(f"{option} {item}" for item in value)
    return option if value is True else f"{option} {value}"


class FetchSettings(Settings):
    """Fetch a public pool of images by name; its licence is shown and agreed to first."""

    name: str | None = Field(None, description="The pool, such as isic or dermamnist [default: list all].", json_schema_extra=POSITIONAL)
    out: Path | None = Field(None, description="The folder to write: images, metadata.csv, manifest.parquet and LICENCE.txt.")
    query: str | None = Field(None, description="Which images of the ISIC Archive, in its own words, for example 'sex:female'.")
    limit: int | None = Field(None, ge=1, description="Most images of the ISIC Archive, newest first [default: all].")
    image_size: int | None = Field(None, description="28, 64, 128 or 224 for MedMNIST [default: 28]; 256 for ISIC [default: originals].")
    accept_licence: bool = Field(False, description="Agree to the licence that is shown, in place of answering on the terminal.")
    allow_missing: bool = Field(False, description="Go on without images that the ISIC Archive does not give; they are still listed.")
    threads: int = Field(8, ge=1, le=32, description="Files fetched at a time.")

    @model_validator(mode="after")
    def _place_for_a_pool(self) -> FetchSettings:
        if self.name is not None and self.out is None:
            raise ValueError("--out is required: the folder to write")
        if self.name is None:
            for name, field in type(self).model_fields.items():
                if (value := getattr(self, name)) != field.default:
                    raise ValueError(f"{_given_option(name, value)} would be unused without NAME, which only lists the pools; name a pool")
        return self


class ShowSettings(Settings):
    """Print a model's lineage, its plan with reasons, and its figures."""

    model: Path = Field(description="The model folder.", json_schema_extra=POSITIONAL)


class DemoSettings(Settings):
    """Run the whole story on built-in synthetic images: minutes on two cores, no network."""

    out: Path = Field(Path("isograft-demo"), description="The folder to write.")
    seed: int = Field(0, ge=0, description="Seed of the synthetic images and of every run.")
