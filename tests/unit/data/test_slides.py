"""Slides become tiles where there is tissue, at the resolution asked for, and a tile is what lies there in the slide."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.data.slide_files import tissue, write_slide

import isograft
from isograft.data.address import Address
from isograft.data.containers import read
from isograft.data.readers import ReadError
from isograft.data.slides import Tile, is_slide, read_tile, tiles
from isograft.errors import IsograftError
from isograft.settings import ContentSettings

openslide = pytest.importorskip("openslide", reason="slides need the extra: pip install 'isograft[slides]'")

STARTS = [b"", b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0"]
SETTINGS = ContentSettings.model_validate({"tile_size": 128, "microns_per_pixel": 0.5})


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(tmp_path_factory.mktemp("slides") / "case1.tif", tissue())


def test_tiles_lie_on_a_grid_where_there_is_tissue(slide: Path) -> None:
    found = tiles(str(slide), SETTINGS)
    assert {(tile.size, tile.level, tile.to) for tile in found} == {(256, 1, 128)}
    assert {(tile.x, tile.y) for tile in found} == {(x, y) for x in range(0, 1024, 256) for y in range(512, 2048, 256)}
    assert found == sorted(found, key=lambda tile: (tile.y, tile.x)) == tiles(str(slide), SETTINGS)


def test_no_tissue_asked_for_means_every_whole_tile(slide: Path) -> None:
    assert len(tiles(str(slide), SETTINGS.model_copy(update={"tissue": 0.0}))) == 64
    assert len(tiles(str(slide), SETTINGS.model_copy(update={"tissue": 0.0, "tile_size": 300}))) == 9


@pytest.mark.parametrize("microns", [0.25, 0.5, 0.7])
def test_a_tile_is_what_lies_there_shrunk_by_area(slide: Path, microns: float) -> None:
    image = tissue()
    for tile in tiles(str(slide), SETTINGS.model_copy(update={"microns_per_pixel": microns}))[::5]:
        expected = cv2.resize(image[tile.y : tile.y + tile.size, tile.x : tile.x + tile.size], (128, 128), interpolation=cv2.INTER_AREA)
        shown = read(Address(str(slide), str(tile)), 10**6).array
        assert shown.shape == (128, 128, 3) and np.abs(shown.astype(int) - expected).mean() < 2.0


def test_a_tile_is_found_again_by_its_name() -> None:
    tile = Tile(256, 512, 300, 1, 128)
    assert str(tile) == "x=256,y=512,size=300,level=1,to=128" and Tile.named(str(tile)) == tile
    assert Tile.named("frame=3") is None and Tile.named("x=1,y=2,size=3,level=1") is None


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ("x=1900,y=0,size=256,level=1,to=128", "lies outside of the slide, which has 2048 x 2048 pixels on 3 levels"),
        ("x=0,y=0,size=256,level=3,to=128", "lies outside"),
        ("x=0,y=0,size=0,level=0,to=128", "lies outside"),
        ("x=0,y=0,size=2048,level=0,to=128", "more than is read at once"),
        ("x=0,y=0,size=16,level=0,to=99999", "more than is read at once"),
        ("x=-1,y=0,size=16,level=0,to=9", "names no tile"),
    ],
)
def test_tiles_that_are_not_there_are_one_clear_sentence(slide: Path, part: str, sentence: str) -> None:
    with pytest.raises(ReadError, match=sentence):
        read_tile(str(slide), part, 10**6)


def test_a_slide_without_resolution_is_an_error_that_names_the_option(tmp_path: Path) -> None:
    path = str(write_slide(tmp_path / "a.tif", tissue(), microns=None))
    with pytest.raises(IsograftError, match=r"does not state its resolution; give it in µm per pixel with --slide-resolution"):
        tiles(path, SETTINGS)
    assert tiles(path, SETTINGS.model_copy(update={"slide_resolution": 0.25}))[0].size == 256


def test_a_slide_coarser_than_asked_and_an_empty_one_say_so(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"coarser than the 0\.5 of --microns-per-pixel"):
        tiles(str(write_slide(tmp_path / "a.tif", tissue(), microns=1.0)), SETTINGS)
    noise = np.random.default_rng(0).integers(238, 250, (1024, 1024, 3), dtype=np.uint8)
    with pytest.raises(ReadError, match="no tile of 128 px shows 50% tissue") as caught:
        tiles(str(write_slide(tmp_path / "b.tif", noise)), SETTINGS)
    assert caught.value.status == "empty"


def test_only_tiled_pyramids_among_tiffs_are_slides(tmp_path: Path, slide: Path) -> None:
    image = tissue(512)
    tifffile.imwrite(tmp_path / "flat.tif", image, photometric="rgb")
    tifffile.imwrite(tmp_path / "tiled.tif", image, tile=(256, 256), photometric="rgb")
    tifffile.imwrite(tmp_path / "pages.tif", np.stack([image, image]), photometric="rgb")
    assert is_slide(str(slide)) and is_slide("x.svs") and is_slide("x.MRXS")
    assert not any(is_slide(str(path)) for path in tmp_path.iterdir()) and not is_slide(str(tmp_path / "gone.tif"))


def test_ingest_makes_a_row_of_every_tile_with_its_slide_as_group(tmp_path: Path) -> None:
    for name in ("case1", "case2"):
        write_slide(tmp_path / "slides" / f"{name}.tif", tissue(seed=int(name[-1])))
    (tmp_path / "slides" / "broken.svs").write_bytes(b"no slide")
    (tmp_path / "slides" / "labels.csv").write_text("file,label,patient\ncase1.tif,tumour,p1\ncase2.tif,normal,\nbroken.svs,normal,p3\n")
    made = isograft.ingest(
        [tmp_path / "slides"], out=tmp_path / "m.parquet", labels=tmp_path / "slides" / "labels.csv", group_column="patient", tile_size=128
    )
    usable = made.usable().frame
    assert len(usable) == 48 and len(made) == 49
    assert set(usable.select("slide", "group", "label", "width").rows()) == {
        ("case1", "p1", "tumour", 128),
        ("case2", "case2", "normal", 128),
    }
    assert "slides/case1.tif#x=0,y=512,size=256,level=1,to=128" in usable["uri"] and usable["id"].n_unique() == 48
    (bad,) = made.frame.filter(made.frame["status"] != "ok").select("status", "reason").rows()
    assert bad == ("unsupported", "OpenSlide knows no such slide, or a part of it is missing")


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0"]),
    st.sampled_from([".svs", ".tif", ".mrxs", ".ndpi"]),
)
def test_broken_slides_are_told_and_do_no_harm(tmp_path_factory: pytest.TempPathFactory, body: bytes, start: bytes, suffix: str) -> None:
    path = tmp_path_factory.mktemp("fuzz") / f"a{suffix}"
    path.write_bytes(start + body)
    if is_slide(str(path)):
        with pytest.raises(ReadError):
            tiles(str(path), SETTINGS)


@given(st.integers(8, 4000))
def test_a_slide_cut_off_anywhere_is_told_or_reads_as_it_is(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    folder = tmp_path_factory.mktemp("cut")
    whole = write_slide(folder / "whole.tif", tissue(512), levels=2).read_bytes()
    cut = folder / "cut.tif"
    cut.write_bytes(whole[: len(whole) * length // 4001])
    if is_slide(str(cut)):
        try:
            for tile in tiles(str(cut), SETTINGS.model_copy(update={"tissue": 0.0})):
                assert read_tile(str(cut), str(tile), 10**6).array.shape == (128, 128, 3)
        except ReadError:
            pass


def test_slides_of_two_patients_with_one_name_are_two_slides_and_no_slide_is_read_as_a_flat_picture(tmp_path: Path) -> None:
    for patient in ("a", "b"):
        write_slide(tmp_path / "slides" / patient / "HE.tif", tissue(seed=ord(patient)))
    made = isograft.ingest([tmp_path / "slides"], out=tmp_path / "m.parquet", tile_size=128)
    assert set(made.frame["slide"]) == set(made.frame["group"]) == {"a/HE", "b/HE"}
    with pytest.raises(ReadError, match="a slide is read tile by tile"):
        read(tmp_path / "slides" / "a" / "HE.tif", 10**9)
