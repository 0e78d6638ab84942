"""Join a CSV of labels to image files, and name everything that does not fit."""

# ruff: noqa: PTH100, PTH118, PTH122
# Paths stay text here: there may be millions, and links stay as the user wrote them (Path.resolve follows them).

from __future__ import annotations

import os
import unicodedata
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import polars as pl

from isograft.data.files import ImageFile
from isograft.errors import IsograftError
from isograft.urls import is_url, without_query

SHOWN = 10

MISSING = "CSV rows without a file"
UNLISTED = "files without a CSV row"
REPEATED = "CSV rows that repeat a file"
AMBIGUOUS = "CSV rows that fit several files"
CONFLICTING = "files with conflicting labels"


@dataclass
class Problems:
    """What does not fit together, by kind: names for the user."""

    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, names: Iterable[str]) -> None:
        """Note `names` under `kind`; an empty list leaves no trace."""
        names = list(names)
        if names:
            self.found.setdefault(kind, []).extend(names)

    def __bool__(self) -> bool:
        return bool(self.found)

    def __str__(self) -> str:
        lines = []
        for kind, names in self.found.items():
            more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
            lines.append(f"{len(names):,} {kind}: {', '.join(names[:SHOWN])}{more}")
        return "; ".join(lines)


@dataclass(frozen=True)
class Table:
    """A CSV that was read: the named columns as text, all others with their own types.

    Attributes:
        path: The file.
        frame: Its rows.
        path_column: The column that names the image files.
        roles: CSV column of `label`, `group`, `source` and `split`, as far as there are such.
    """

    path: Path
    frame: pl.DataFrame
    path_column: str
    roles: dict[str, str]

    def role(self, name: str) -> pl.Series | None:
        """The column with a role as text, empty cells null; None where the table has none."""
        return self.frame[self.roles[name]].str.strip_chars().replace("", None) if name in self.roles else None


class NoPathColumn(IsograftError):  # noqa: N818  (it says what a table lacks)
    """No column of a table names any of the files."""


class Finder(Protocol):
    """Finds the files a cell can mean."""

    def find(self, cell: str | None) -> Sequence[Hashable]:
        """Something that stands for each of these files."""


class FileIndex:
    """Image files by name: finds the file a CSV cell means."""

    def __init__(self, images: Sequence[ImageFile], folder: Path) -> None:
        self._folder = os.path.abspath(folder)
        self._parts = [_parts(image.path) for image in images]
        self._paths = {_normal(image.path): index for index, image in enumerate(images)}
        self._names: dict[str, list[int]] = {}
        self._stems: dict[str, list[int]] = {}
        for index, parts in enumerate(self._parts):
            self._names.setdefault(parts[-1], []).append(index)
            self._stems.setdefault(os.path.splitext(parts[-1])[0], []).append(index)

    def find(self, cell: str | None) -> list[int]:
        """Indices of the files a cell can mean: a name or path, with or without folders, with or without extension.

        Where several fit, one that lies exactly there as seen from the CSV's folder wins.
        """
        parts = _parts(cell or "")
        if not parts:
            return []
        exact = self._paths.get(_normal(exact_path(cell or "", self._folder)))
        if exact is not None:
            return [exact]
        found = self._names.get(parts[-1]) or self._stems.get(parts[-1], [])
        parents = [part for part in parts[:-1] if part != ".."]
        return [index for index in found if self._parts[index][-1 - len(parents) : -1] == parents] if parents else found


def exact_path(cell: str, folder: str) -> str:
    """The absolute path a cell names when it is taken at its word, as seen from the table's folder; a URL as it is."""
    if is_url(cell):
        return cell
    return os.path.normpath(os.path.join(folder, cell.replace("\\", "/")))


def read_table(path: Path, files: Finder, path_column: str | None, roles: dict[str, str | None]) -> Table:
    """Read a CSV (comma, semicolon or tab) and find the column that names the files.

    Args:
        path: The CSV.
        files: The image files.
        path_column: The column that names them; None takes the column whose cells find most of them.
        roles: For `label`, `group`, `source` and `split` the column the user named, or None: then a column called
            exactly so is taken where there is one.

    Raises:
        NoPathColumn: It names none of the files.
        IsograftError: The table cannot be read, or lacks a named column.
    """
    text = _read_csv(path, {})
    if not text.height:
        raise IsograftError(f"{path} has no rows; it must have a header and one row per image")
    for option, column in (("path", path_column), *roles.items()):
        if column is not None and column not in text.columns:
            raise IsograftError(f"{path} has no column {column} for --{option}-column; it has {', '.join(text.columns)}")
    column = path_column or _path_column(path, text, files)
    named = {role: name or role for role, name in roles.items() if name or role in text.columns}
    frame = _read_csv(path, dict.fromkeys({column, *named.values()}, pl.String))
    return Table(path, frame, column, named)


def match(table: Table, files: FileIndex, images: Sequence[ImageFile], keep: pl.Series) -> tuple[list[int | None], set[int], Problems]:
    """Pair files with rows.

    Args:
        table: The CSV.
        files: The index over `images`.
        images: The files.
        keep: For each row whether it is wanted; unwanted rows claim their files but cannot be missing or repeated.

    Returns:
        For each file its row or None; the files claimed by unwanted rows only; what does not fit.
    """
    rows: list[int | None] = [None] * len(images)
    unwanted: set[int] = set()
    problems = Problems()
    label = table.role("label")
    labels = label.to_list() if label is not None else [None] * table.frame.height
    conflicts: dict[int, set[str]] = {}
    for row, (cell, wanted) in enumerate(zip(table.frame[table.path_column], keep, strict=True)):
        found = files.find(cell)
        if not wanted:
            unwanted.update(found)
        elif len(found) != 1:
            name = cell or f"(empty cell in row {row + 1})"
            problems.add(
                AMBIGUOUS if found else MISSING, [f"{name} ({', '.join(images[i].relative for i in found[:3])})" if found else name]
            )
        elif (first := rows[found[0]]) is None:
            rows[found[0]] = row
        else:
            problems.add(REPEATED, [cell])
            if labels[first] != labels[row]:
                conflicts.setdefault(found[0], {str(labels[first])}).add(str(labels[row]))
    problems.add(CONFLICTING, [f"{images[index].relative} ({', '.join(sorted(names))})" for index, names in conflicts.items()])
    unwanted -= {index for index, row in enumerate(rows) if row is not None}
    problems.add(UNLISTED, [image.relative for index, image in enumerate(images) if rows[index] is None and index not in unwanted])
    return rows, unwanted, problems


def _read_csv(path: Path, types: dict[str, type[pl.DataType]]) -> pl.DataFrame:
    """Read with the given types; with none given, everything as text."""
    try:
        with path.open(encoding="utf-8-sig") as stream:
            header = stream.readline()
        separator = max(",;\t", key=header.count)
        if not types:
            return pl.read_csv(path, separator=separator, infer_schema=False)
        return pl.read_csv(path, separator=separator, schema_overrides=types, infer_schema_length=None)
    except UnicodeDecodeError:
        raise IsograftError(f"{path} is not UTF-8 text; save the table as CSV (UTF-8)") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        cause = str(error).partition("\n")[0]
        raise IsograftError(f"the table {path} cannot be read: {cause}; it must be a CSV with a header") from None


def _path_column(path: Path, text: pl.DataFrame, files: Finder) -> str:
    """The column whose cells find the most different files."""
    scores = {name: len({file for cell in text[name].unique() for file in files.find(cell)}) for name in text.columns}
    best = max(scores, key=lambda name: scores[name])
    if not scores[best]:
        cell = text[text.columns[0]][0]
        raise NoPathColumn(
            f"no column of {path} names any of the image files (for example, its column {text.columns[0]} has '{cell}');"
            " check the image folder, or name the column with --path-column"
        )
    return best


def _normal(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _parts(path: str) -> list[str]:
    path = without_query(path).rstrip("?") if is_url(path) else path
    return [part for part in _normal(path).replace("\\", "/").split("/") if part not in ("", ".")]
