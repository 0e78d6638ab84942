"""Tables whose cells name their image files exactly: each file is asked for by its name, and no folder is walked."""

# ruff: noqa: PTH100, PTH113, PTH120, PTH122
# Paths stay text here: there may be millions, and links stay as the user wrote them (Path.resolve follows them).

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from isograft.data.files import DICOM_SUFFIXES, ImageFile
from isograft.data.readers import IMAGE_SUFFIXES
from isograft.data.selection import holds
from isograft.data.shards import SHARD_SUFFIX
from isograft.data.slides import SLIDE_SUFFIXES
from isograft.data.tables import NoPathColumn, Table, exact_path, read_table
from isograft.urls import folder_and_name, is_url, suffix_of


@dataclass(frozen=True)
class NamedTable:
    """A table all of whose wanted rows name a file exactly.

    Attributes:
        table: The table.
        rows: Its wanted rows.
        paths: The absolute path, or URL, of each of them.
    """

    table: Table
    rows: pl.DataFrame
    paths: list[str]

    def images(self) -> list[ImageFile]:
        """The files, each once, as if found in the table's folder, or in their own where they lie elsewhere."""
        root = os.path.abspath(self.table.path.parent)
        return [_image_file(path, root) for path in dict.fromkeys(self.paths)]


class NamedFiles:
    """Image files that cells name exactly, as seen from the table's folder, and URLs.

    Args:
        folder: The table's folder.
        any_url: Whether a URL counts whatever its ending: where the user says that the column names the images.
    """

    def __init__(self, folder: Path, any_url: bool = False) -> None:
        self._folder = os.path.abspath(folder)
        self._any_url = any_url
        self._asked: dict[str, list[str]] = {}

    def find(self, cell: str | None) -> list[str]:
        """The absolute path or URL of the one image file a cell names, or nothing; only a name that ends like an image is asked for.

        Whether there is something behind a URL is not asked here: reading it tells.
        """
        if cell is not None and is_url(cell):
            return [cell] if self._any_url or suffix_of(cell) in IMAGE_SUFFIXES | {SHARD_SUFFIX} else []
        if cell is None or os.path.splitext(cell)[1].lower() not in IMAGE_SUFFIXES | DICOM_SUFFIXES | SLIDE_SUFFIXES:
            return []
        if cell not in self._asked:
            path = exact_path(cell, self._folder)
            self._asked[cell] = [path] if os.path.isfile(path) else []
        return self._asked[cell]


def read_named(path: Path, path_column: str | None, roles: dict[str, str | None], where: str | None) -> NamedTable | None:
    """Read a CSV all of whose wanted rows name an image file exactly: relative to the CSV, absolute, or by URL.

    Args:
        path: The CSV.
        path_column: The column that names the files; None takes the one that names most.
        roles: See `isograft.data.tables.read_table`.
        where: Which rows are wanted; None means all.

    Returns:
        None when a row does not, so that its file must be searched for.
    """
    files = NamedFiles(path.parent, any_url=path_column is not None)
    try:
        table = read_table(path, files, path_column, roles)
    except NoPathColumn:
        return None
    rows = table.frame.filter(holds(table.frame, where, str(path))) if where else table.frame
    paths = [found for cell in rows[table.path_column] for found in files.find(cell)]
    return NamedTable(table, rows, paths) if 0 < rows.height == len(paths) else None


def _image_file(path: str, root: str) -> ImageFile:
    if is_url(path):
        return ImageFile(path, *folder_and_name(path))
    if not path.startswith(root.rstrip(os.sep) + os.sep):
        root = os.path.dirname(path)
    return ImageFile(path, root, os.path.relpath(path, root).replace(os.sep, "/"))
