"""Options of the verbs that bring a classifier into use: export, serve, suggest."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from isograft.settings.base import POSITIONAL, Settings
from isograft.settings.use import InputSettings

ExportFormat = Literal["onnx", "safetensors", "timm"]
ExportPrecision = Literal["fp32", "fp16", "int8"]
SuggestStrategy = Literal["auto", "coverage", "uncertainty"]


class ExportSettings(Settings):
    """Options of `export`."""

    model: Path = Field(description="The model folder.", json_schema_extra=POSITIONAL)
    to: ExportFormat = Field(description="An ONNX file, one safetensors file, or a folder that timm.create_model loads.")
    out: Path = Field(description="The file (.onnx, .safetensors) or, for timm, the folder to write.")
    precision: ExportPrecision = Field("fp32", description="Arithmetic of the exported network; fp16 and int8 go with --to onnx.")
    images: str | None = Field(
        None, description="Images on which the answers are compared [default: the model's test split, or else its labeled cases]."
    )

    @model_validator(mode="after")
    def _fits(self) -> ExportSettings:
        suffix = {"onnx": ".onnx", "safetensors": ".safetensors"}.get(self.to)
        if suffix and self.out.suffix.lower() != suffix:
            raise ValueError(f"--out {self.out} must end in {suffix} with --to {self.to}")
        if self.to != "onnx" and self.precision != "fp32":
            raise ValueError(f"--precision {self.precision} goes with --to onnx; --to {self.to} holds the weights as they were trained")
        return self


class ServeSettings(Settings):
    """Options of `serve`."""

    model: Path = Field(description="The model folder.", json_schema_extra=POSITIONAL)
    host: str = Field(
        "127.0.0.1",
        description="Address to listen on: 127.0.0.1 lets in this machine alone, 0.0.0.0 whoever can reach it and has the token.",
    )
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    token_file: Path | None = Field(
        None,
        description="File with the token that clients must send [default: a new one if others can reach --host or images are shown].",
    )
    engine: Literal["torch", "onnxruntime"] = Field(
        "torch", description="What computes, as predict --engine has it; onnxruntime answers more clients at a time."
    )
    max_megabytes: int = Field(64, ge=1, le=4096, description="Largest upload.")
    max_megapixels: int = Field(50, ge=1, le=1000, description="Largest image, by its header, before it is decoded.")
    label: Path | None = Field(None, description="Table of images to label in the app, as suggest writes it.")
    labels_out: Path | None = Field(None, description="Manifest (.parquet) the labels are written to; an existing one is continued.")
    label_class: tuple[str, ...] = Field((), description="Class to choose from when labeling; repeatable [default: the model's own].")

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @model_validator(mode="after")
    def _labeling(self) -> ServeSettings:
        if (self.label is None) != (self.labels_out is None):
            given, missing = ("--label", "--labels-out") if self.label else ("--labels-out", "--label")
            raise ValueError(f"{given} needs {missing}: one names the images to label, the other the manifest to write")
        if self.label_class and self.label is None:
            raise ValueError("--label-class is about labeling; name the images with --label and the manifest with --labels-out")
        if self.label_class and (len(self.label_class) < 2 or len(set(self.label_class)) < len(self.label_class)):
            raise ValueError("--label-class must be given twice or more, with different names: a label chooses between classes")
        if not all(name == name.strip() and name for name in self.label_class):
            raise ValueError("--label-class needs a name without spaces around it")
        if self.labels_out is not None and self.labels_out.suffix.lower() != ".parquet":
            raise ValueError(f"--labels-out {self.labels_out} must end in .parquet")
        return self


class SuggestSettings(InputSettings):
    """Options of `suggest`."""

    n: int = Field(ge=1, description="How many images to choose.")
    out: Path = Field(description="The table to write (.csv), best first; isograft serve --label opens it.")
    strategy: SuggestStrategy = Field(
        "auto", description="Choose images that cover the pool, those the model is unsure of, or as its number of labels calls for."
    )
    seed: int = Field(0, ge=0, description="Seed of every draw.")

    @model_validator(mode="after")
    def _table_format(self) -> SuggestSettings:
        if self.out.suffix.lower() != ".csv":
            raise ValueError(f"--out {self.out} must end in .csv")
        return self
