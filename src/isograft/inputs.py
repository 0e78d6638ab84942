"""What `predict` and `explain` are asked about: a file, a folder, a CSV or a manifest becomes a list of files, one row each."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from isograft import console
from isograft.data.address import Address
from isograft.data.containers import Part, parts_or_reason
from isograft.data.files import Listing, find_images
from isograft.data.manifest import Manifest, decode_uri, encode_uri, has_secrets, part_of_uri
from isograft.data.named import NamedFiles, read_named
from isograft.data.selection import holds
from isograft.data.tables import FileIndex, Finder, read_table
from isograft.errors import IsograftError
from isograft.settings import ContentSettings, InputSettings, flag
from isograft.urls import is_url, without_query


@dataclass(frozen=True)
class Inputs:
    """The rows asked for.

    Attributes:
        uris: N names as the user gave them: relative to the folder, as in the CSV, or as in the manifest; URLs without query strings.
        places: Where the N images lie; None where a name fits no file or several, or the file is known to be of no use.
        problems: Row to (status, reason) where the place is None.
        further: N rows of columns to keep beside the answers; their names may clash with ours. Of files with several images, the `file`.
    """

    uris: list[str]
    places: list[Address | None]
    problems: dict[int, tuple[str, str]]
    further: pl.DataFrame

    def rows(self, begin: int, end: int) -> Inputs:
        """The rows from `begin` up to `end`, or to the last."""
        problems = {row - begin: problem for row, problem in self.problems.items() if begin <= row < end}
        return Inputs(self.uris[begin:end], self.places[begin:end], problems, self.further[begin:end])


def list_inputs(settings: InputSettings) -> Inputs:
    """Find the images a model is asked about.

    Raises:
        IsograftError: The input does not exist, names no image, or an option does not go with it.
    """
    if is_url(settings.input):
        return _from_files(settings.input, settings)
    path = Path(settings.input).expanduser()
    if not path.exists():
        raise IsograftError(f"{settings.input} does not exist; give an image, a folder, a CSV or a manifest (.parquet)")
    suffix = path.suffix.lower()
    if path.is_file() and suffix in {".csv", ".tsv"}:
        inputs = _from_table(path, settings)
    elif path.is_file() and suffix == ".parquet":
        inputs = _from_manifest(path, settings)
    else:
        inputs = _from_files(str(path), settings)
    if not inputs.uris:
        raise IsograftError(f"{settings.input} has no row to classify{f' for which {settings.where} holds' if settings.where else ''}")
    return inputs


def _from_files(path: str, settings: InputSettings) -> Inputs:
    for name in ("where", "path_column"):
        if getattr(settings, name) is not None:
            kind = "a URL" if is_url(path) else "a folder" if Path(path).is_dir() else "an image"
            raise IsograftError(f"{flag(name)} needs a CSV or a manifest, but {path} is {kind}")
    listing = find_images([path])
    if listing.others:
        endings = sorted({Path(other).suffix or "no ending" for other in listing.others})[:5]
        console.say(f"{len(listing.others):,} files of {path} are not images by their names ({', '.join(endings)}) and are passed over")
    uris = [encode_uri(image.relative) for image in listing.images]
    files = pl.DataFrame({"file": [image.relative for image in listing.images]}, schema={"file": pl.String})
    found = _unfolded(Inputs(uris, [Address(image.path) for image in listing.images], {}, files), settings)
    several = len(found.uris) > len(uris) or settings.needs_file
    return found if several else replace(found, further=pl.DataFrame())


def _unfolded(inputs: Inputs, settings: InputSettings) -> Inputs:
    """A row for every image of a file that holds several, with the columns of the file's row."""
    uris: list[str] = []
    places: list[Address | None] = []
    problems: dict[int, tuple[str, str]] = {}
    rows: list[int] = []
    for row, (uri, place) in enumerate(zip(inputs.uris, inputs.places, strict=True)):
        if place is None or place.part:
            several, reason = [Part(place.part if place else "")], None
        else:
            several, reason = parts_or_reason(place.file, settings)
        for one in several:
            if row in inputs.problems:
                problems[len(uris)] = inputs.problems[row]
            elif reason is not None:
                problems[len(uris)] = (reason.status, reason.reason)
            new = one.part if place is not None and not place.part else ""
            uris.append(uri + (f"#{encode_uri(new)}" if new else ""))
            places.append(None if place is None or reason is not None else Address(place.file, one.part))
            rows.append(row)
    return Inputs(uris, places, problems, inputs.further[rows] if inputs.further.width else inputs.further)


def _from_manifest(path: Path, settings: InputSettings) -> Inputs:
    if settings.path_column is not None:
        raise IsograftError(f"--path-column goes with a CSV, but {path} is a manifest")
    for name, field in ContentSettings.model_fields.items():
        if getattr(settings, name) != field.default:
            raise IsograftError(f"{flag(name)} is about slides and DICOM files; the manifest {path} has decided that already: leave it out")
    manifest = Manifest.read(path)
    if settings.where:
        manifest = manifest.select(holds(manifest.frame, settings.where, str(path)))
    frame = manifest.frame
    ours = ["id", "uri", "width", "height", "channels", "bits", "pixel_hash", "perceptual_hash", "look", "status", "reason"]
    known = [
        name
        for name in frame.columns
        if name not in ours and (name not in {"label", "group", "source", "split"} or frame[name].null_count() < len(frame))
    ]
    return Inputs([_named(uri) for uri in frame["uri"]], list(manifest.addresses()), {}, _public(frame.select(known)))


def _from_table(path: Path, settings: InputSettings) -> Inputs:
    named = read_named(path, settings.path_column, {}, settings.where)
    if named is not None:
        column = named.table.path_column
        uris = [_named(cell) for cell in named.rows[column]]
        found = Inputs(uris, [Address(path) for path in named.paths], {}, _public(named.rows.drop(column)))
        return _unfolded(found, settings)
    index = None if settings.path_column else _index(path)
    table = read_table(path, _WithParts(index or NamedFiles(path.parent), path.parent), settings.path_column, {})
    frame = table.frame.filter(holds(table.frame, settings.where, str(path))) if settings.where else table.frame
    cells = [cell or "" for cell in frame[table.path_column]]
    places: list[Address | None] = [_direct(cell, path.parent) for cell in cells]
    problems: dict[int, tuple[str, str]] = {}
    for row, cell in enumerate(cells):
        if places[row] is None:
            index = index or _index(path)
            places[row], problem = _search(cell, index)
            if problem:
                problems[row] = problem
    found = Inputs([_named(cell) for cell in cells], places, problems, _public(frame.drop(table.path_column)))
    return _unfolded(found, settings)


def _named(uri: str) -> str:
    """A row's name in the output: a URL loses its query string, since who has a signed one has the image."""
    address, mark, part = uri.partition("#")
    return without_query(address).rstrip("?") + mark + part if is_url(uri) else uri


def _public(frame: pl.DataFrame) -> pl.DataFrame:
    """The columns to keep beside the answers: those with signed URLs are left out, and named."""
    signed = [name for name, kind in frame.schema.items() if kind == pl.String and has_secrets(frame[name])]
    if signed:
        console.warn(f"URLs with a query string or password stand in {', '.join(signed)}, left out of the output")
    return frame.drop(signed)


def _direct(cell: str, folder: Path) -> Address | None:
    """The file a cell names exactly, seen from the table's folder, the part of one (as the uri of a manifest), or the URL that it is."""
    if is_url(cell):
        return Address(cell)
    path = folder / cell
    if cell.strip() and path.is_file():
        return Address(str(path))
    whole = folder / decode_uri(cell)
    return Address(str(whole), part_of_uri(cell)) if "#" in cell and whole.is_file() else None


class _WithParts:
    """Finds what another finds, and parts of files."""

    def __init__(self, files: Finder, folder: Path) -> None:
        self._files, self._folder = files, folder

    def find(self, cell: str | None) -> Sequence[Hashable]:
        """Something that stands for each image a cell can mean."""
        found = self._files.find(cell)
        return found if found or cell is None or "#" not in cell or _direct(cell, self._folder) is None else [cell]


class _Indexed(FileIndex):
    """A file index that also gives the paths."""

    def __init__(self, listing: Listing, folder: Path) -> None:
        super().__init__(listing.images, folder)
        self.paths: Sequence[str] = [image.path for image in listing.images]


def _index(path: Path) -> _Indexed:
    """The images below the table's folder; none is no error here, since a row may name a file anywhere."""
    try:
        listing = find_images([path.parent])
    except IsograftError:
        if not os.access(path.parent, os.R_OK | os.X_OK):
            raise
        listing = Listing([], [])
    return _Indexed(listing, path.parent)


def _search(cell: str, index: _Indexed) -> tuple[Address | None, tuple[str, str] | None]:
    """The one file a cell means without folder or extension, or why there is none."""
    found, paths = index.find(cell), index.paths
    if len(found) == 1:
        return Address(paths[found[0]]), None
    if found:
        return None, ("ambiguous", f"the name fits {len(found)} files, such as {paths[found[0]]} and {paths[found[1]]}")
    return None, ("missing", "there is no such file" if cell.strip() else "the cell is empty")
