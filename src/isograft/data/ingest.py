"""The `ingest` verb: decode every image once and write a manifest, one row per image, good or bad."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from isograft import console
from isograft.data.address import Address
from isograft.data.decode import NOT_FETCHED, Facts, core_count, decode_all
from isograft.data.files import ImageFile, Listing, find_images, folder_labels
from isograft.data.manifest import RESERVED, SCHEMA, Manifest, arrange, relative_uri
from isograft.data.named import read_named
from isograft.data.remote import check, io_threads
from isograft.data.selection import holds
from isograft.data.tables import CONFLICTING, REPEATED, UNLISTED, FileIndex, Problems, Table, match, read_table
from isograft.data.unfold import unfold
from isograft.errors import IsograftError
from isograft.settings import IngestSettings
from isograft.urls import is_url, is_web

ROLES = ("label", "group", "source", "split")
LABEL_REMOVED = "label removed: identical pixels have another label"
SAME_PIXELS = "sets of identical images with conflicting labels"


def ingest(settings: IngestSettings) -> Manifest:
    """Read images and write the manifest `settings.out`; an existing one is replaced.

    Raises:
        IsograftError: A source cannot be read or has no images, images cannot be fetched, CSV and files do not match (unless
            `allow_missing`), or the manifest cannot be written.
    """
    if settings.out.suffix.lower() != ".parquet":
        raise IsograftError(f"--out {settings.out} must end in .parquet")
    settings, listing, listed_only = _listed(settings)
    if signed := sum(is_web(image.path) and "?" in image.path for image in listing.images):
        console.warn(f"{signed:,} URLs have a query string; should that be a signature, keep {settings.out} to yourself, as it holds them")
    manifest = read_sources(settings, listing, listed_only)
    manifest.write(settings.out)
    console.say(f"Wrote {settings.out}: {describe(manifest)}")
    return manifest


def read_sources(settings: IngestSettings, listing: Listing, listed_only: bool = False, settle: bool = True) -> Manifest:
    """Decode the files of a listing into a manifest for `settings.out`, without writing it.

    Args:
        settings: All options of ingest.
        listing: The image files.
        listed_only: The CSV alone says which files are meant: files without a row are none of our business.
        settle: Whether identical pixels under different labels are an error; an audit wants to see them.
    """
    images, table = _tabulate(settings, listing, listed_only)
    places, table, reasons = unfold(settings, images, table)
    sound = [place for place, reason in zip(places, reasons, strict=True) if reason is None]
    with console.Progress(len(sound), "Reading images") as progress:
        threads = settings.threads or io_threads(places, core_count())
        read = iter(decode_all(sound, int(settings.max_megapixels * 1e6), threads, progress.advance))
    facts = [next(read) if reason is None else Facts.bad(reason) for reason in reasons]
    places, facts, table = _fetched(places, facts, table, settings.allow_missing)
    manifest = Manifest(_assemble(settings, places, facts, table), settings.out)
    if settle:
        manifest = _settle_conflicts(manifest, settings.allow_missing)
    if settings.drop_labels:
        dropped = [settings.label_column] if settings.label_column and settings.label_column not in SCHEMA else []
        manifest = Manifest(manifest.frame.with_columns(label=pl.lit(None, pl.String)).drop(dropped, strict=False), manifest.path)
    report_unusable(manifest)
    return manifest


def describe(manifest: Manifest) -> str:
    """One line on what a manifest holds."""
    usable = manifest.usable()
    parts = [f"{len(usable):,} of {len(manifest):,} images usable"]
    if manifest.classes():
        counts = Counter(label for label in usable.labels() if label is not None)
        parts.append(", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())[:12]))
        if len(counts) > 12:
            parts.append(f"{len(counts)} classes in all")
    else:
        parts.append("no labels")
    groups = manifest.frame["group"].drop_nulls().n_unique()
    return "; ".join([*parts, *([f"{groups:,} groups"] if groups else [])])


def report_unusable(manifest: Manifest) -> None:
    """Warn about the rows whose image cannot be used: how many, of what kind, and the first names."""
    bad = manifest.frame.filter(pl.col("status") != "ok")
    if not bad.height:
        return
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(Counter(bad["status"]).items()))
    names = ", ".join(f"{uri} ({reason})" for uri, reason in bad.select("uri", "reason").head(3).rows())
    more = f" and {bad.height - 3:,} more" if bad.height > 3 else ""
    console.warn(f"{bad.height:,} of {len(manifest):,} images cannot be used and never will be ({kinds}): {names}{more}")


def _listed(settings: IngestSettings) -> tuple[IngestSettings, Listing, bool]:
    """The images, and whether a CSV alone says which: where the one source is a CSV of URLs."""
    path = settings.source[0]
    if len(settings.source) > 1 or settings.labels or isinstance(path, str) or path.suffix.lower() not in (".csv", ".tsv"):
        return settings, find_images(settings.source), False
    path = path.expanduser()
    roles = {"label": settings.label_column, "group": settings.group_column, "source": settings.source_column}
    named = read_named(path, settings.path_column, {**roles, "split": None}, settings.where) if path.is_file() else None
    if named is None or not any(is_url(one) for one in named.paths):
        return settings, find_images(settings.source), False
    for url in filter(is_url, named.paths):
        check(url)
    return settings.model_copy(update={"labels": path, "path_column": named.table.path_column}), Listing(named.images(), []), True


def _fetched(
    places: list[Address], facts: list[Facts], table: pl.DataFrame, allow_missing: bool
) -> tuple[list[Address], list[Facts], pl.DataFrame]:
    """Only what could be fetched; unless that is all, or the rest is missing and may be, there must be no manifest.

    Raises:
        IsograftError: Images could not be fetched. A manifest with holes, because a network was down, would pass for whole later.
    """
    lost = [row for row, one in enumerate(facts) if one.status in NOT_FETCHED]
    if not lost:
        return places, facts, table
    first = ", ".join(f"{places[row]} ({facts[row].reason})" for row in lost[:3])
    told = f"{len(lost):,} of {len(places):,} images cannot be fetched: {first}{f' and {len(lost) - 3:,} more' if len(lost) > 3 else ''}"
    if not allow_missing or any(facts[row].status == "unreachable" for row in lost):
        remedy = "correct the addresses, or go on without what is missing with ingest --allow-missing"
        if any(facts[row].status == "unreachable" for row in lost):
            remedy = "see to the network and the credentials, then run it again"
        raise IsograftError(f"{told}; nothing was written: {remedy}")
    console.warn(f"{told}; they are left out")
    kept = sorted(set(range(len(places))) - set(lost))
    if not kept:
        raise IsograftError(f"none of the {len(places):,} images is there; correct the addresses")
    return [places[row] for row in kept], [facts[row] for row in kept], table[kept]


def _tabulate(settings: IngestSettings, listing: Listing, listed_only: bool) -> tuple[list[ImageFile], pl.DataFrame]:
    """The files to read, and for each of them its label, group, source, split and further columns."""
    images = listing.images
    from_folders = folder_labels(images)
    frame = pl.DataFrame(
        {
            "uri": [image.relative for image in images],
            "label": [label for label, _ in from_folders],
            "group": [None] * len(images),
            "source": [Path(image.root).name for image in images],
            "split": [split for _, split in from_folders],
        },
        schema=dict.fromkeys(("uri", *ROLES), pl.String),
    )
    if settings.labels is None:
        for role in ("path", "label", "group", "source"):
            if getattr(settings, f"{role}_column") is not None:
                raise IsograftError(f"--{role}-column names a column of a CSV; pass the CSV with --labels")
        keep = holds(frame, settings.where, "the images") if settings.where else None
    else:
        frame, keep = _join(settings, settings.labels, images, frame, listed_only)
    others = [path for path in listing.others if settings.labels is None or path != os.path.abspath(settings.labels)]  # noqa: PTH100
    if others and not listed_only:
        console.say(f"{len(others):,} files that are no images were left out, such as {Path(others[0]).name}")
    if keep is not None:
        images = [image for image, wanted in zip(images, keep, strict=True) if wanted]
        frame = frame.filter(keep)
    if not images:
        raise IsograftError(f'no image is left: --where "{settings.where}" holds for none of them')
    return images, frame


def _join(
    settings: IngestSettings, path: Path, images: Sequence[ImageFile], folders: pl.DataFrame, listed_only: bool
) -> tuple[pl.DataFrame, pl.Series]:
    """The CSV's columns for each file, and which files to keep."""
    files = FileIndex(images, path.parent)
    named = {"label": settings.label_column, "group": settings.group_column, "source": settings.source_column, "split": None}
    table = read_table(path, files, settings.path_column, named)
    wanted = holds(table.frame, settings.where, str(path)) if settings.where else pl.repeat(True, table.frame.height, eager=True)
    rows, unwanted, problems = match(table, files, images, wanted)
    if listed_only or (settings.where and settings.allow_missing):
        unwanted |= {index for index, row in enumerate(rows) if row is None}
    if listed_only:
        problems.found.pop(UNLISTED, None)
    _settle(problems, settings.allow_missing, str(path))
    frame = _columns(table, rows, folders)
    if CONFLICTING in problems.found:
        frame = _without_label(frame, table, files)
    return frame, pl.Series([index not in unwanted for index in range(len(images))], dtype=pl.Boolean)


def _columns(table: Table, rows: Sequence[int | None], folders: pl.DataFrame) -> pl.DataFrame:
    """The table's cells in file order; roles the table does not fill keep what the folders say."""
    taken = {column for role, column in table.roles.items() if column == role}
    renamed = {name: f"csv_{name}" for name in table.frame.columns if name in RESERVED and name not in taken}
    roles = [series.alias(role) for role in ROLES if (series := table.role(role)) is not None]
    known = {series.name for series in roles}
    cells = table.frame.drop(taken).rename(renamed, strict=False).with_columns(roles, __row=pl.int_range(table.frame.height))
    base = folders.drop(known).with_columns(__row=pl.Series(rows, dtype=pl.Int64))
    return base.join(cells, on="__row", how="left", maintain_order="left").drop("__row")


def _without_label(frame: pl.DataFrame, table: Table, files: FileIndex) -> pl.DataFrame:
    """Take the label from files whose rows disagree on it: none of them can be trusted."""
    label = table.role("label")
    seen: dict[int, set[str | None]] = {}
    for cell, name in zip(table.frame[table.path_column], label if label is not None else (), strict=True):
        for index in files.find(cell):
            seen.setdefault(index, set()).add(name)
    disputed = [len(seen.get(index, ())) > 1 for index in range(frame.height)]
    return frame.with_columns(label=pl.when(pl.Series(disputed)).then(None).otherwise(pl.col("label")))


def _assemble(settings: IngestSettings, places: Sequence[Address], facts: Sequence[Facts], table: pl.DataFrame) -> pl.DataFrame:
    """All columns of the manifest, sorted by uri."""
    folder = os.path.abspath(settings.out.parent)  # noqa: PTH100
    kinds = {name: SCHEMA[name] for name in Facts._fields}
    read = pl.DataFrame(list(facts), schema=kinds, orient="row").with_columns(id=pl.col("pixel_hash").str.head(16))
    uris = pl.Series("uri", [relative_uri(place, folder) for place in places], pl.String)
    return arrange(pl.concat([table.with_columns(uris), read], how="horizontal")).sort("uri")


def _settle_conflicts(manifest: Manifest, allowed: bool) -> Manifest:
    """Identical pixels under different labels are an error, or lose their labels where that is allowed."""
    labeled = manifest.frame.filter(pl.col("label").is_not_null() & pl.col("pixel_hash").is_not_null())
    disputed = labeled.filter(pl.col("label").n_unique().over("pixel_hash") > 1)
    if not disputed.height:
        return manifest
    problems = Problems()
    named = pl.concat_str("uri", pl.lit(" ("), "label", pl.lit(")"))
    problems.add(SAME_PIXELS, disputed.group_by("pixel_hash", maintain_order=True).agg(name=named.str.join(" = "))["name"])
    _settle(problems, allowed, "the images")
    hit = pl.col("pixel_hash").is_in(disputed["pixel_hash"].unique().to_list())
    note = pl.concat_str("reason", pl.lit(LABEL_REMOVED), separator="; ", ignore_nulls=True)
    frame = manifest.frame.with_columns(
        reason=pl.when(hit).then(note).otherwise(pl.col("reason")), label=pl.when(hit).then(None).otherwise(pl.col("label"))
    )
    return Manifest(frame, manifest.path)


def _settle(problems: Problems, allowed: bool, where: str) -> None:
    """Warn of what does not fit, or refuse."""
    if not problems:
        return
    if allowed:
        lost = " (they lose their labels)" if CONFLICTING in problems.found or SAME_PIXELS in problems.found else ""
        first = " (the first row counts)" if REPEATED in problems.found else ""
        console.warn(f"{where}: {problems}{lost}{first}")
    else:
        raise IsograftError(f"{where}: {problems}; correct this, or go on without them with ingest --allow-missing")
