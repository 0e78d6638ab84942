"""Pictures of cases, where the model folder keeps them."""

from __future__ import annotations

import base64
from pathlib import Path

import polars as pl
import pytest
from tests.unit.serve.conftest import jpeg

from isograft.errors import IsograftError
from isograft.serve.thumbnails import THUMBNAILS_FILE, thumbnails


def test_a_case_is_found_by_its_id_and_uri(tmp_path: Path) -> None:
    rows = {"id": ["a", "a", "b"], "uri": ["1.png", "2.png", "3.png"], "jpeg": [jpeg(1), jpeg(2), None]}
    pl.DataFrame(rows).write_parquet(tmp_path / THUMBNAILS_FILE)
    found = thumbnails(tmp_path)
    assert found.there and found("a", "2.png") == "data:image/jpeg;base64," + base64.b64encode(jpeg(2)).decode()
    assert found("b", "3.png") is None and found("a", "3.png") is None


def test_a_folder_without_pictures_has_none_and_a_broken_file_is_told(tmp_path: Path) -> None:
    assert not thumbnails(tmp_path).there and thumbnails(tmp_path)("a", "1.png") is None
    (tmp_path / THUMBNAILS_FILE).write_bytes(b"no parquet")
    with pytest.raises(IsograftError, match="cannot be read"):
        thumbnails(tmp_path)
