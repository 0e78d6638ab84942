"""Open whatever the user calls DATA: a manifest, a class-per-folder tree, a flat folder or a CSV."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import polars as pl

from isograft import console
from isograft.data.files import Listing, find_images
from isograft.data.ingest import read_sources, report_unusable
from isograft.data.manifest import Manifest
from isograft.data.selection import holds
from isograft.errors import IsograftError
from isograft.settings import DataSettings, IngestSettings

CACHE_FORMAT = "1"


def default_cache_dir() -> Path:
    """The folder for decoded images and manifests made on the fly; safe to delete."""
    return Path.home() / ".cache" / "isograft"


def open_data(data: str, settings: DataSettings, need_labels: bool) -> Manifest:
    """The usable images of DATA.

    A manifest is taken as it is. Anything else is ingested on the fly; the result is kept in the cache folder and
    found again as long as no file, size or time stamp changes.

    Args:
        data: A manifest (.parquet), a folder (class per folder, or flat), a CSV that names images, or one image.
        settings: Which columns and rows to use, and where the cache is.
        need_labels: Images without a label are of no use: they are left out, and none at all is an error.

    Raises:
        IsograftError: DATA does not exist, does not match its CSV, or leaves no usable image.
    """
    path = Path(data).expanduser()
    if not path.exists():
        raise IsograftError(f"{data} does not exist; DATA is a manifest (.parquet), a folder of images or a CSV")
    if path.suffix.lower() == ".parquet":
        manifest = _from_manifest(path, settings)
        report_unusable(manifest)
    else:
        manifest = _on_the_fly(path, settings)
    everything, manifest = manifest, manifest.usable()
    if not len(manifest):
        why = f"none of its {len(everything)} images can be used" if len(everything) else f'--where "{settings.where}" holds for no image'
        raise IsograftError(f"{data}: {why}")
    return _labeled(manifest, data) if need_labels else manifest


def _from_manifest(path: Path, settings: DataSettings) -> Manifest:
    if settings.labels is not None or settings.path_column is not None:
        raise IsograftError(f"--labels and --path-column go with a folder, but {path} is a manifest; give the CSV to ingest instead")
    manifest = Manifest.read(path)
    frame = manifest.frame
    if settings.where:
        frame = frame.filter(holds(frame, settings.where, str(path)))
    for role, column in (("label", settings.label_column), ("group", settings.group_column)):
        if column is None or column == role:
            continue
        if column not in frame.columns:
            raise IsograftError(f"{path} has no column {column} for --{role}-column; it has {', '.join(frame.columns)}")
        frame = frame.with_columns(pl.col(column).cast(pl.String).alias(role))
    return Manifest(frame, manifest.path)


def _on_the_fly(path: Path, settings: DataSettings) -> Manifest:
    is_table = path.is_file() and path.suffix.lower() in {".csv", ".tsv"}
    if is_table and settings.labels is not None:
        raise IsograftError(f"{path} is a CSV already; --labels {settings.labels} goes with a folder")
    listing = find_images([path.parent if is_table else path])
    cache = (settings.cache_dir or default_cache_dir()) / "manifests"
    options = IngestSettings.model_validate(
        {
            "source": (path,),
            "out": cache / "on-the-fly.parquet",
            "labels": path if is_table else settings.labels,
            **settings.model_dump(include={"path_column", "label_column", "group_column", "where", "threads"}),
        }
    )
    place = cache / f"{_key(options, listing)}.parquet"
    if place.is_file():
        try:
            manifest = Manifest.read(place)
        except IsograftError:
            console.warn(f"the cached {place} is damaged and is made again")
        else:
            report_unusable(manifest)
            return manifest
    manifest = read_sources(options.model_copy(update={"out": place}), listing, listed_only=is_table)
    manifest.write(place)
    return manifest


def _key(options: IngestSettings, listing: Listing) -> str:
    """SHA-256 over everything the manifest depends on: options, CSV, and each file's path, size and time."""
    digest = hashlib.sha256(CACHE_FORMAT.encode())
    digest.update(options.model_dump_json(exclude={"out", "threads"}).encode("utf-8", "surrogateescape"))
    if options.labels is not None:
        if not options.labels.is_file():
            raise IsograftError(f"--labels {options.labels} does not exist")
        digest.update(options.labels.read_bytes())
    for image in listing.images:
        try:
            facts = os.stat(image.path)  # noqa: PTH116
            line = f"{image.root}\0{image.path}\0{facts.st_size}\0{facts.st_mtime_ns}\n"
        except OSError:
            line = f"{image.path}\0gone\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


def _labeled(manifest: Manifest, data: str) -> Manifest:
    labeled = manifest.select(pl.col("label").is_not_null())
    if not len(labeled):
        raise IsograftError(
            f"{data} has no labels; use one folder per class, pass a CSV with --labels and --label-column, or choose a manifest column"
        )
    if len(labeled) < len(manifest):
        console.warn(f"{len(manifest) - len(labeled):,} of {len(manifest):,} usable images of {data} have no label and are left out")
    return labeled
