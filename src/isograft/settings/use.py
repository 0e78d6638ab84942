"""Options of the verbs that use a model: evaluate, predict, explain, show; and of the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from isograft.settings.base import POSITIONAL, Settings, flag
from isograft.settings.data import ContentSettings, DataSettings


class EvaluateSettings(DataSettings):
    """Options of `evaluate`."""

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


EngineName = Literal["auto", "torch", "onnxruntime", "ray"]


class PredictSettings(InputSettings):
    """Options of `predict`."""

    out: Path = Field(description="The table to write, ending in .csv or .parquet.")
    tta: bool = Field(False, description="Average over the turns and mirror images that leave an image's meaning unchanged.")
    heatmaps: Path | None = Field(None, description="Folder to write a picture and an array to for each image: what speaks for the class.")
    pool_by: str | None = Field(None, description="One answer for all images with one value of this column, for example file or group.")
    top_k: int | None = Field(None, ge=1, description="With --pool-by: per class, average the K images most sure of it [default: all].")
    engine: EngineName = Field("auto", description="What computes: torch, onnxruntime, or many processes or machines under ray.")
    resume: bool = Field(False, description="Continue an interrupted run: rows that were answered are kept; nothing else may change.")

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
    """Options of `explain`."""

    out: Path = Field(description="The folder to write: explain.html, explain.csv, and a picture and an array per image.")
    method: ExplanationName = Field("auto", description="How the heatmap is made; auto chooses by the network, and says why.")
    target: str | None = Field(None, description="The class to explain [default: the predicted one].")
    similar: int = Field(6, ge=0, le=24, description="Labeled training images to show that are most alike to the model; 0 for none.")
    features: bool = Field(False, description="Show the first filters and the feature maps of a convolutional network, too.")


class ShowSettings(Settings):
    """Options of `show`."""

    model: Path = Field(description="The model folder.", json_schema_extra=POSITIONAL)


class DemoSettings(Settings):
    """Options of `demo`."""

    out: Path = Field(Path("isograft-demo"), description="The folder to write.")
    seed: int = Field(0, ge=0, description="Seed of the synthetic images and of every run.")
