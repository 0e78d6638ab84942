from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from isograft.data.headers import sniff
from isograft.data.readers import Pixels, ReadError, decode_image, read_image, real_bits, to_rgb8

LIMIT = 10_000_000


def stored(picture: Image.Image, kind: str, path: Path, **options: object) -> Path:
    picture.save(path, kind, **options)
    return path


def status_of(path: Path, limit: int = LIMIT) -> tuple[str, str]:
    with pytest.raises(ReadError) as caught:
        read_image(path, limit)
    assert caught.value.reason
    return caught.value.status, caught.value.reason


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_a_lossless_format_gives_back_its_pixels(kind: str, small_image: np.ndarray, tmp_path: Path) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    path = stored(Image.fromarray(small_image), kind, tmp_path / "a", **options)
    pixels = read_image(path, LIMIT)
    assert pixels.bits == 8 and pixels.note == ""
    np.testing.assert_array_equal(pixels.array, small_image)


def test_a_jpeg_is_rgb_and_close_to_its_source(small_image: np.ndarray, tmp_path: Path) -> None:
    array = read_image(stored(Image.fromarray(small_image), "JPEG", tmp_path / "a.jpg", quality=95), LIMIT).array
    assert array.shape == small_image.shape
    assert np.abs(array.astype(int) - small_image).mean() < 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP"])
def test_a_grey_image_stays_one_channel(kind: str, small_image: np.ndarray, tmp_path: Path) -> None:
    array = read_image(stored(Image.fromarray(small_image).convert("L"), kind, tmp_path / "a"), LIMIT).array
    assert array.shape == small_image.shape[:2]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int, small_image: np.ndarray, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    array = read_image(stored(Image.fromarray(small_image), kind, tmp_path / "a", exif=exif, **options), LIMIT).array
    turns = {
        1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a.transpose(1, 0, 2), 2), 8: np.rot90,
    }  # fmt: skip
    expected = turns[orientation](small_image)
    assert array.shape == expected.shape
    assert np.abs(array.astype(int) - expected).mean() < 3


def test_a_palette_is_expanded(small_image: np.ndarray, tmp_path: Path) -> None:
    palette = Image.fromarray(small_image).quantize(8)
    for kind in ("PNG", "TIFF", "BMP"):
        np.testing.assert_array_equal(read_image(stored(palette, kind, tmp_path / kind), LIMIT).array, np.asarray(palette.convert("RGB")))


def test_transparency_is_composed_on_white(small_image: np.ndarray, tmp_path: Path) -> None:
    alpha = np.full(small_image.shape[:2], 255, np.uint8)
    alpha[0], alpha[1] = 0, 51
    path = stored(Image.fromarray(np.dstack([small_image, alpha])), "PNG", tmp_path / "a.png")
    array = read_image(path, LIMIT).array
    assert (array[0] == 255).all()
    np.testing.assert_array_equal(array[1], np.rint(small_image[1] * 0.2 + 255 * 0.8))
    np.testing.assert_array_equal(array[2:], small_image[2:])


def test_a_transparent_palette_entry_becomes_white(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8))
    picture.putpalette([10, 20, 30, 40, 50, 60])
    array = read_image(stored(picture, "PNG", tmp_path / "a.png", transparency=0), LIMIT).array
    assert array[0, 0].tolist() == [255, 255, 255] and array[0, 1].tolist() == [40, 50, 60]


def test_cmyk_becomes_rgb(small_image: np.ndarray, tmp_path: Path) -> None:
    cmyk = Image.fromarray(small_image).convert("CMYK")
    exact = read_image(stored(cmyk, "TIFF", tmp_path / "a.tif"), LIMIT).array
    np.testing.assert_array_equal(exact, np.asarray(cmyk.convert("RGB")))
    close = read_image(stored(cmyk, "JPEG", tmp_path / "a.jpg", quality=95), LIMIT).array
    assert np.abs(close.astype(int) - exact).mean() < 6


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("colour", [False, True])
def test_sixteen_bits_are_kept_and_their_real_range_is_noted(suffix: str, colour: bool, tmp_path: Path) -> None:
    values = np.linspace(7, 4000, 48).astype(np.uint16).reshape(6, 8)
    image = np.dstack([values, values // 2, values // 3]) if colour else values
    path = tmp_path / f"a{suffix}"
    assert cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1]) if colour else image)
    pixels = read_image(path, LIMIT)
    np.testing.assert_array_equal(pixels.array, image)
    assert pixels.bits == 12
    assert f"values {image.min()} to 4000" in pixels.note and "12 bits" in pixels.note


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (64, 64)}])
def test_a_sixteen_bit_colour_tiff_is_its_own_pixels_whatever_was_decoded_before(options: dict[str, Any], tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    images = [draw.integers(0, 60000, (300, 310, 3)).astype(np.uint16), np.full((300, 310, 3), 1000, np.uint16)]
    for number, image in enumerate(images):
        tifffile.imwrite(tmp_path / f"{number}.tif", image, photometric="rgb", **options)
    for number in (0, 1, 0, 1, 1):
        np.testing.assert_array_equal(read_image(tmp_path / f"{number}.tif", LIMIT).array, images[number])


def test_a_sixteen_bit_tiff_with_its_channels_apart_is_refused(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 60000, (3, 300, 310)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", planarconfig="separate")
    with pytest.raises(ReadError, match="channels one after the other") as caught:
        read_image(tmp_path / "a.tif", LIMIT)
    assert caught.value.status == "unsupported"


def test_sixteen_bits_become_eight_by_the_depth_they_use() -> None:
    twelve = np.array([[0, 2048, 4095]], np.uint16)
    assert real_bits(twelve) == 12
    assert to_rgb8(twelve)[0, :, 0].tolist() == [0, 128, 255]
    assert to_rgb8(np.array([[0, 65535]], np.uint16))[0, :, 0].tolist() == [0, 255]
    assert to_rgb8(np.array([[3, 200]], np.uint16))[0, :, 0].tolist() == [3, 200]


def test_grey_becomes_three_equal_channels() -> None:
    rgb = to_rgb8(np.array([[1, 2], [3, 4]], np.uint8))
    assert rgb.shape == (2, 2, 3) and (rgb == rgb[..., :1]).all()


def test_of_an_animation_the_first_frame_is_read_and_noted() -> None:
    frames = [Image.new("RGB", (12, 9), colour) for colour in ("red", "lime", "blue")]
    stream = io.BytesIO()
    frames[0].save(stream, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    pixels = decode_image(stream.getvalue(), 1000)
    assert (pixels.array == [255, 0, 0]).all() and pixels.note == "first of 3 frames"
    stream = io.BytesIO()
    frames[0].save(stream, "WEBP")
    assert decode_image(stream.getvalue(), 1000).note == ""


def test_of_several_pages_the_first_is_read_and_noted(tmp_path: Path) -> None:
    pages = np.stack([np.full((8, 9), value, np.uint8) for value in (10, 20, 30)])
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack")
    pixels = read_image(tmp_path / "a.tif", LIMIT)
    assert (pixels.array == 10).all() and pixels.note == "first of 3 pages"


def test_a_bigtiff_and_a_big_endian_tiff_are_read(small_image: np.ndarray, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "big.tif", small_image, bigtiff=True)
    tifffile.imwrite(tmp_path / "other.tif", small_image, byteorder=">")
    for name in ("big.tif", "other.tif"):
        np.testing.assert_array_equal(read_image(tmp_path / name, LIMIT).array, small_image)


@pytest.mark.parametrize("widths", [(8, 60_000), (60_000, 8)])
def test_a_tiff_that_states_two_widths_is_judged_by_the_larger(widths: tuple[int, int]) -> None:
    entries = [(256, width) for width in widths] + [(257, 60_000)]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries) + bytes(4)
    with pytest.raises(ReadError, match="60000 x 60000"):
        decode_image(b"II*\0" + struct.pack("<I", 8) + directory, LIMIT)


def test_float_samples_are_unsupported(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), np.float32))
    assert status_of(tmp_path / "a.tif")[0] == "unsupported"


def test_one_pixel_is_an_image(tmp_path: Path) -> None:
    for kind in ("PNG", "JPEG", "BMP", "TIFF", "WEBP"):
        assert read_image(stored(Image.new("RGB", (1, 1), (9, 9, 9)), kind, tmp_path / kind), LIMIT).array.shape == (1, 1, 3)


def test_a_file_without_bytes_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    assert status_of(tmp_path / "a.jpg")[0] == "empty"


def test_text_called_jpg_is_unsupported_and_shown(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("hello, this is text")
    status, reason = status_of(tmp_path / "a.jpg")
    assert status == "unsupported" and "hello, this is" in reason


def test_a_missing_file_and_a_folder_are_not_images(tmp_path: Path) -> None:
    assert status_of(tmp_path / "none.png")[0] == "corrupt"
    assert status_of(tmp_path)[0] == "unsupported"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "WEBP"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.97])
def test_a_cut_file_is_never_an_image(kind: str, part: float, rng: np.random.Generator, tmp_path: Path) -> None:
    path = stored(Image.fromarray(rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)), kind, tmp_path / "a")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    assert status_of(path)[0] in {"truncated", "corrupt"}


def test_a_jpeg_cut_in_its_scan_is_truncated_although_opencv_decodes_it(rng: np.random.Generator, tmp_path: Path) -> None:
    path = stored(Image.fromarray(rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)), "JPEG", tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    assert cv2.imread(str(path)) is not None
    assert status_of(path) == ("truncated", "the JPEG stops before its end: it has no end-of-image marker")


def test_the_end_marker_of_an_embedded_preview_does_not_hide_a_cut(rng: np.random.Generator, tmp_path: Path) -> None:
    picture = Image.fromarray(rng.integers(0, 256, (120, 160, 3), dtype=np.uint8))
    preview, whole = io.BytesIO(), io.BytesIO()
    picture.resize((16, 16)).save(preview, "JPEG")
    picture.save(whole, "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(preview.getvalue()) + 2) + preview.getvalue()
    data = whole.getvalue()[:2] + segment + whole.getvalue()[2:]
    (tmp_path / "whole.jpg").write_bytes(data + b"a trailer")
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) * 3 // 4])
    assert read_image(tmp_path / "whole.jpg", LIMIT).array.shape == (120, 160, 3)
    assert status_of(tmp_path / "cut.jpg")[0] == "truncated"


def test_a_flipped_byte_in_a_png_is_corrupt(small_image: np.ndarray, tmp_path: Path) -> None:
    path = stored(Image.fromarray(small_image), "PNG", tmp_path / "a.png")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    assert status_of(path)[0] == "corrupt"


def huge_png(path: Path, side: int) -> Path:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    return path


def test_an_image_beyond_the_limit_is_refused_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    status, reason = status_of(huge_png(tmp_path / "a.png", 30_000), 200_000_000)
    assert status == "too_large" and "30000 x 30000" in reason and "200 megapixels" in reason


def test_an_image_that_does_not_fit_into_memory_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_image: np.ndarray
) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    path = stored(Image.fromarray(small_image), "PNG", tmp_path / "a.png")
    monkeypatch.setattr(cv2, "imdecode", full)
    assert status_of(path)[0] == "too_large"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    assert status_of(tmp_path / "a.png")[0] == "unsupported"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_the_header_agrees_with_pillow(kind: str, mode: str, tmp_path: Path) -> None:
    if kind == "JPEG" and mode == "RGBA":
        return
    for lossless in (True, False):
        data = io.BytesIO()
        Image.new(mode, (37, 21)).save(data, kind, **({"lossless": lossless} if kind == "WEBP" else {}))
        header = sniff(data.getvalue())
        assert header is not None
        assert (header.width, header.height, header.format) == (37, 21, kind.lower())


def test_any_beginning_of_a_file_is_judged_without_a_crash(tmp_path: Path, small_image: np.ndarray) -> None:
    for kind in ("JPEG", "PNG", "TIFF", "BMP", "WEBP"):
        data = io.BytesIO()
        Image.fromarray(small_image[:9, :9]).save(data, kind)
        for length in range(0, min(len(data.getvalue()) - 3, 700), 29):
            (tmp_path / "a").write_bytes(data.getvalue()[:length])
            try:
                result = read_image(tmp_path / "a", LIMIT)
            except ReadError as error:
                assert error.reason
            else:
                assert isinstance(result, Pixels) and kind == "TIFF"
