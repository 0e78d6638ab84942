"""Small pictures of the labeled cases, where the model folder was told to keep them."""

from __future__ import annotations

import base64
from pathlib import Path

import polars as pl

from isograft.errors import IsograftError

THUMBNAILS_FILE = "cases_thumbnails.parquet"


class Thumbnails:
    """Pictures by case.

    Attributes:
        there: Whether the model folder keeps any.
    """

    def __init__(self, jpegs: dict[tuple[str, str], bytes]) -> None:
        self._jpegs = jpegs
        self.there = bool(jpegs)

    def __call__(self, id: str, uri: str) -> str | None:
        """The picture of a case as a data URL."""
        jpeg = self._jpegs.get((id, uri))
        return None if jpeg is None else "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def thumbnails(folder: Path) -> Thumbnails:
    """Those of a model folder.

    Raises:
        IsograftError: The file cannot be read.
    """
    path = folder / THUMBNAILS_FILE
    if not path.is_file():
        return Thumbnails({})
    try:
        rows = pl.read_parquet(path, columns=["id", "uri", "jpeg"]).rows()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise IsograftError(f"{path} cannot be read ({error}); copy the model folder again") from error
    return Thumbnails({(id, uri): jpeg for id, uri, jpeg in rows if jpeg})
