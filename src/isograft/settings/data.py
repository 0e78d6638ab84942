"""Options of the verbs that look at images: ingest, audit, fetch; and how data is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from isograft.settings.base import POSITIONAL, Place, Settings, given_option

AuditKind = Literal["leak", "conflict", "duplicate", "corrupt", "shortcut", "unusual", "classes"]
AUDIT_KINDS: tuple[AuditKind, ...] = get_args(AuditKind)
"""What an audit can find, as `--fail-on` names it, the gravest first."""


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
    """Options of `ingest`."""

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


class AuditSettings(Settings):
    """Options of `audit`."""

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


class FetchSettings(Settings):
    """Options of `fetch`."""

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
                    raise ValueError(f"{given_option(name, value)} would be unused without NAME, which only lists the pools; name a pool")
        return self
