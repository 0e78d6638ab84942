"""Thumbnails: what is kept, what is read back, and what is said of a damaged file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from isograft.data.places import THUMBNAILS_FILE
from isograft.errors import IsograftError
from isograft.thumbnails import SIDE, Thumbnails, jpeg, thumbnail_table


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


@given(st.integers(1, 400), st.integers(1, 400))
def test_a_thumbnail_is_a_jpeg_that_fits_and_is_never_enlarged(height: int, width: int) -> None:
    picture = opened(jpeg(np.zeros((height, width, 3), np.uint8)))
    assert picture.format == "JPEG" and picture.mode == "RGB"
    assert max(picture.size) == min(SIDE, max(height, width)) and min(picture.size) >= 1
    assert abs(picture.width * height - picture.height * width) <= max(height, width)


def test_red_stays_red() -> None:
    red = np.zeros((200, 100, 3), np.uint8)
    red[..., 0] = 200
    assert np.abs(np.asarray(opened(jpeg(red)), int)[40, 40] - [200, 0, 0]).max() < 6


def test_each_case_is_read_back_by_id_and_uri(tmp_path: Path) -> None:
    images = [np.full((20, 30, 3), shade, np.uint8) for shade in (10, 200)]
    cases = pl.DataFrame({"id": ["a", "a"], "uri": ["x.png", "y.png"], "label": ["p", "q"]})
    thumbnail_table(cases, images).write_parquet(tmp_path / THUMBNAILS_FILE)
    kept = Thumbnails.load(tmp_path)
    assert kept is not None and kept.get("a", "z.png") is None
    shades = [np.asarray(opened(kept.get("a", uri) or b"")).mean() for uri in ("x.png", "y.png")]
    np.testing.assert_allclose(shades, [10, 200], atol=2)


def test_a_folder_without_thumbnails_has_none_and_a_damaged_file_is_told(tmp_path: Path) -> None:
    assert Thumbnails.load(tmp_path) is None
    (tmp_path / THUMBNAILS_FILE).write_bytes(b"nothing")
    with pytest.raises(IsograftError, match=r"cases_thumbnails\.parquet cannot be read.*copy the model folder again"):
        Thumbnails.load(tmp_path)
