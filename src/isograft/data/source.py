"""Open whatever the user calls DATA: a manifest, a class-per-folder tree, a flat folder or a CSV."""

# ruff: noqa: PTH100, PTH116, PTH118
# Paths are compared as text: links stay as the user wrote them (Path.resolve follows them).

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import polars as pl

from isograft import console
from isograft.data.files import Listing, find_images
from isograft.data.ingest import read_sources, report_unusable
from isograft.data.manifest import Manifest
from isograft.data.named import read_named
from isograft.data.selection import holds
from isograft.data.tables import FileIndex, read_table
from isograft.errors import IsograftError
from isograft.settings import DataSettings, FinetuneSettings, IngestSettings, flag
from isograft.urls import is_url

CACHE_FORMAT = "2"
INGEST_FIRST = "write a manifest of its images first (isograft ingest {source} --out M.parquet), and give that"
"""What remote data need: nobody could tell cheaply whether a manifest made on the fly before still holds."""


def default_cache_dir() -> Path:
    """The folder for decoded images and manifests made on the fly; safe to delete."""
    return Path.home() / ".cache" / "isograft"


def open_data(data: str, settings: DataSettings, need_labels: bool) -> Manifest:
    """The usable images of DATA.

    A manifest is taken as it is. Anything else is ingested on the fly; the result is kept in the cache folder and
    found again as long as no file, size or time stamp changes.

    Args:
        data: A manifest (.parquet), a folder (class per folder, or flat), a CSV that names images, or one image.
        settings: Which columns and rows to use, and where the cache is. They describe DATA; of its `--val`, when that is
            what is opened, as far as they can: `--labels` where its CSV names images of that folder too, columns where it has
            columns, `--where` always.
        need_labels: Images without a label are of no use: they are left out, and none at all is an error.

    Raises:
        IsograftError: DATA does not exist, does not match its CSV, or leaves no usable image.
    """
    everything = open_everything(data, settings)
    manifest = everything.usable()
    if not len(manifest):
        why = f"none of its {len(everything)} images can be used" if len(everything) else f'--where "{settings.where}" holds for no image'
        raise IsograftError(f"{data}: {why}")
    return _labeled(manifest, data) if need_labels else manifest


def open_everything(data: str, settings: DataSettings, settle: bool = True) -> Manifest:
    """All rows of DATA, those whose image cannot be used among them; they are told of.

    Args:
        data: As for `open_data`.
        settings: As for `open_data`.
        settle: Whether identical pixels under different labels are an error.

    Raises:
        IsograftError: DATA does not exist, or does not match its CSV.
    """
    if is_url(data):
        raise IsograftError(f"{data} lies elsewhere; {INGEST_FIRST.format(source=data)}")
    path = Path(data).expanduser()
    if not path.exists():
        raise IsograftError(f"{data} does not exist; DATA is a manifest (.parquet), a folder of images or a CSV")
    if isinstance(settings, FinetuneSettings) and settings.data != data == settings.val:
        settings = _for_validation(path, settings)
    if path.suffix.lower() != ".parquet":
        return _on_the_fly(path, settings, settle)
    manifest = _from_manifest(path, settings)
    report_unusable(manifest)
    return manifest


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


def _for_validation(path: Path, settings: FinetuneSettings) -> FinetuneSettings:
    """The options given for DATA as far as they concern `--val`."""
    if path.is_dir():
        if _shared_listing(settings) is not None:
            return settings
        idle = ["labels", "path_column", "label_column", "group_column"]
        given = [flag(name) for name in idle if getattr(settings, name) is not None]
        if given:
            console.say(f"--val {path} is read by the names of its folders, only {settings.data} by {', '.join(given)}")
    else:
        idle = ["labels", "path_column"] if path.suffix.lower() == ".parquet" else ["labels"]
    return settings.model_copy(update=dict.fromkeys(idle))


def _shared_listing(settings: DataSettings) -> Listing | None:
    """The images of DATA and `--val` together, when both are folders and the CSV has a row that fits `--val` and not DATA."""
    if not isinstance(settings, FinetuneSettings) or settings.labels is None or settings.val is None:
        return None
    data, val = Path(settings.data).expanduser(), Path(settings.val).expanduser()
    if not (data.is_dir() and val.is_dir() and settings.labels.is_file()):
        return None
    listing = find_images([data, val])
    files = FileIndex(listing.images, settings.labels.parent)
    table = read_table(settings.labels, files, settings.path_column, {})
    of_val = {index for index, image in enumerate(listing.images) if image.path.startswith(_prefix(val))}
    fitting = (files.find(cell) for cell in table.frame[table.path_column].unique())
    return listing if any(found and of_val.issuperset(found) for found in fitting) else None


def _on_the_fly(path: Path, settings: DataSettings, settle: bool = True) -> Manifest:
    is_table = path.is_file() and path.suffix.lower() in {".csv", ".tsv"}
    if is_table and settings.labels is not None:
        raise IsograftError(f"{path} is a CSV already; --labels {settings.labels} goes with a folder")
    chosen = settings.model_dump(include={"path_column", "label_column", "group_column", "where", "threads"})
    shared = None if is_table else _shared_listing(settings)
    if is_table:
        listing, chosen["path_column"] = _listed(path, settings)
    else:
        listing = shared or find_images([path])
    cache = (settings.cache_dir or default_cache_dir()) / "manifests"
    source = (path,) if shared is None else tuple(dict.fromkeys(image.root for image in shared.images))
    labels = path if is_table else settings.labels
    options = IngestSettings.model_validate({"source": source, "out": cache / "on-the-fly.parquet", "labels": labels, **chosen})
    place = cache / f"{_key(options, listing)}{'' if settle else '-as-it-is'}.parquet"
    manifest = _cached(place)
    if manifest is None:
        manifest = read_sources(options.model_copy(update={"out": place}), listing, listed_only=is_table, settle=settle)
        manifest.write(place)
    return manifest if shared is None else _below(path, manifest)


def _listed(path: Path, settings: DataSettings) -> tuple[Listing, str | None]:
    """The images a CSV names and the column that names them; its folder is searched only when a row does not name its file exactly."""
    roles = {"label": settings.label_column, "group": settings.group_column, "source": None, "split": None}
    named = read_named(path, settings.path_column, roles, settings.where)
    if named is None:
        return find_images([path.parent]), settings.path_column
    if any(is_url(one) for one in named.paths):
        raise IsograftError(f"{path} names images that lie elsewhere; {INGEST_FIRST.format(source=path)}")
    return Listing(named.images(), []), named.table.path_column


def _cached(place: Path) -> Manifest | None:
    """The manifest made on the fly before, if there is a sound one."""
    if not place.is_file():
        return None
    try:
        manifest = Manifest.read(place)
    except IsograftError:
        console.warn(f"the cached {place} is damaged and is made again")
        return None
    report_unusable(manifest)
    return manifest


def _below(folder: Path, manifest: Manifest) -> Manifest:
    """The rows whose file lies below a folder."""
    inside = [os.path.abspath(file).startswith(_prefix(folder)) for file in manifest.locate()]
    return manifest.select(np.array(inside, dtype=bool))


def _prefix(folder: Path) -> str:
    """What the absolute path of every file in a folder begins with."""
    return os.path.join(os.path.abspath(folder), "")


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
            facts = os.stat(image.path)
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
