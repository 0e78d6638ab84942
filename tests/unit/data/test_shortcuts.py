"""Border, corners, coarse colour and file facts show what they say, and nothing else."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from isograft.data.address import Address
from isograft.data.shortcuts import BORDER, COLOUR, CORNERS, _jpeg_facts, file_facts, measure


def test_only_the_edges_are_in_the_border_and_only_the_corners_in_the_corners(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (100, 140, 3), dtype=np.uint8)
    inner = image.copy()
    inner[6:-6, 6:-6] = 0
    assert np.array_equal(measure(image)[BORDER], measure(inner)[BORDER])
    middle = image.copy()
    middle[8:-8] = 0
    middle[:, 8:-8] = 0
    assert np.array_equal(measure(image)[CORNERS], measure(middle)[CORNERS])
    assert not np.array_equal(measure(image)[COLOUR], measure(inner)[COLOUR])


def test_plain_images_show_their_colour_everywhere() -> None:
    found = measure(np.full((64, 48, 3), (10, 20, 30), np.uint8))
    assert found[COLOUR].reshape(-1, 3).tolist() == [[10, 20, 30]] * 64
    assert found[BORDER].reshape(-1, 3).tolist() == [[10, 20, 30]] * 32
    assert found[CORNERS].reshape(4, 2, 3).tolist() == [[[10, 20, 30], [0, 0, 0]]] * 4


@given(st.integers(1, 40), st.integers(1, 40))
def test_images_of_any_size_have_features_of_one_length(height: int, width: int) -> None:
    found = measure(np.zeros((height, width, 3), np.uint8))
    assert {name: values.shape for name, values in found.items()} == {BORDER: (96,), CORNERS: (24,), COLOUR: (192,)}


def test_a_file_shows_its_bytes_kind_compression_and_exif(
    tmp_path: Path, small_image: np.ndarray, write_image: Callable[..., Path]
) -> None:
    facts = {}
    for quality in (95, 40):
        path = tmp_path / f"{quality}.jpg"
        cv2.imwrite(str(path), small_image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        facts[quality] = file_facts(Address(str(path)), 64, 48, 3, 8)
    assert facts[40][15] > facts[95][15] > 0 and facts[40][13] < facts[95][13]
    png = file_facts(Address(str(write_image(tmp_path / "a.png", small_image))), 64, 48, 3, 8)
    assert png[15] == 0 and png[5:13].tolist() != facts[95][5:13].tolist()
    with_exif = Image.fromarray(small_image)
    exif = Image.Exif()
    exif[271] = "maker"
    with_exif.save(tmp_path / "e.jpg", exif=exif)
    assert file_facts(Address(str(tmp_path / "e.jpg")), 64, 48, 3, 8)[16] == 1 and facts[95][16] == 0


def test_quantisation_steps_are_those_that_pillow_reads(small_image: np.ndarray) -> None:
    stream = io.BytesIO()
    Image.fromarray(small_image).save(stream, "jpeg", quality=73)
    tables = Image.open(io.BytesIO(stream.getvalue())).quantization
    expected = np.log(np.mean([step for table in tables.values() for step in table]))
    assert _jpeg_facts(stream.getvalue())[0] == pytest.approx(expected)


@given(st.binary(max_size=400))
def test_broken_jpeg_headers_do_no_harm(tail: bytes) -> None:
    coarse, exif = _jpeg_facts(b"\xff\xd8\xff" + tail)
    assert coarse == coarse and exif in (0.0, 1.0)  # not NaN


@pytest.mark.parametrize("place", [Address("https://x.org/a.jpg"), Address("a.tif", "frame=2"), Address("/nowhere/a.jpg")])
def test_what_has_no_bytes_of_its_own_tells_its_size_only(place: Address) -> None:
    facts = file_facts(place, 10, 20, 3, 8)
    assert facts[:5] == pytest.approx([np.log(10), np.log(20), np.log(0.5), 3, 8]) and not facts[13:].any()
