"""A cache that is damaged, also while it is being read, gives the right image or an error."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isograft.data import cache_file
from isograft.data.cache import ImageCache
from isograft.data.ingest import ingest
from isograft.data.manifest import Manifest
from isograft.data.preprocess import Preprocess
from isograft.errors import IsograftError
from isograft.settings import IngestSettings

PREPROCESS = Preprocess(image_size=16, working_size=20)


@pytest.fixture
def manifest(image_tree: Path, tmp_path: Path) -> Manifest:
    return ingest(IngestSettings(source=(image_tree,), out=tmp_path / "m.parquet", threads=1))


def build(manifest: Manifest, folder: Path, limit_gb: float = 1.0) -> ImageCache:
    return ImageCache.build(manifest, PREPROCESS, folder, 1, limit_gb)


def spoil(path: Path, change: Callable[[bytes], bytes], moment: int = 1) -> None:
    """Write to the file itself, as a stray program would, at a time of its own however fast the test is."""
    data = change(path.read_bytes())
    with path.open("r+b") as stream:
        stream.truncate(len(data))
        stream.write(data)
    os.utime(path, (10**9 + moment, 10**9 + moment))


def flipped(data: bytes) -> bytes:
    """Every image has a wrong byte."""
    changed = bytearray(data)
    changed[5 : len(data) - 700 : 50] = bytes(255 - byte for byte in changed[5 : len(data) - 700 : 50])
    return bytes(changed)


DAMAGES = {"flipped": flipped, "cut short": lambda data: data[: len(data) // 3], "emptied": lambda data: b""}


@pytest.mark.parametrize("read_before", [False, True])
@pytest.mark.parametrize("limit_gb", [1.0, 1e-9], ids=["raw", "jpeg"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_while_it_is_open_is_found_said_once_and_mended_in_place(
    damage: str, limit_gb: float, read_before: bool, manifest: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = build(manifest, tmp_path / "cache", limit_gb)
    whole = cache.path.read_bytes()
    wanted = [image.copy() for image in build(manifest, tmp_path / "other", limit_gb)]
    if read_before:
        list(cache)
    capsys.readouterr()
    spoil(cache.path, DAMAGES[damage])
    assert all(np.array_equal(found, image) for found, image in zip(cache.select(range(len(wanted))), wanted, strict=True))
    assert capsys.readouterr().err.count("has been damaged") == 1
    assert cache.path.read_bytes() == whole
    again = build(manifest, tmp_path / "cache", limit_gb)
    assert all(np.array_equal(found, image) for found, image in zip(again, wanted, strict=True))
    assert "damaged" not in capsys.readouterr().err


def test_damage_before_it_is_opened_is_mended_too(manifest: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = build(manifest, tmp_path)
    whole, wanted = cache.path.read_bytes(), [image.copy() for image in cache]
    spoil(cache.path, flipped)
    assert all(np.array_equal(found, image) for found, image in zip(build(manifest, tmp_path), wanted, strict=True))
    assert cache.path.read_bytes() == whole
    assert "has been damaged" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["gone", "changed"])
def test_without_the_original_it_is_one_sentence_that_names_both(
    how: str, manifest: Manifest, tmp_path: Path, write_image: Callable[[Path, np.ndarray], Path]
) -> None:
    cache = build(manifest, tmp_path)
    original = manifest.locate()[3]
    spoil(cache.path, flipped)
    if how == "gone":
        original.unlink()
    else:
        write_image(original, np.zeros((32, 40, 3), np.uint8))
    assert cache[2].shape == (20, 25, 3)
    with pytest.raises(IsograftError, match=rf"image cache {cache.path} has been damaged, and .*{original.name} .*restore the file"):
        cache[3]


def test_what_other_software_made_is_not_mixed_with_what_this_makes(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = build(manifest, tmp_path)
    made = cache_file.decode_working
    monkeypatch.setattr(cache_file, "decode_working", lambda *given: (made(*given)[0], memoryview(bytes(20 * 25 * 3))))
    spoil(cache.path, flipped)
    with pytest.raises(IsograftError, match="other software than now has made it: delete this file"):
        cache[0]


def test_a_deleted_cache_is_read_on_by_who_has_it_open_and_built_again_by_the_next(manifest: Manifest, tmp_path: Path) -> None:
    cache = build(manifest, tmp_path / "cache")
    whole, first = cache.path.read_bytes(), cache[0].copy()
    cache.path.unlink()
    assert np.array_equal(cache[0], first) and len(list(cache)) == len(manifest)
    assert build(manifest, tmp_path / "cache").path.read_bytes() == whole


def test_a_cache_that_may_only_be_read_still_gives_the_right_images(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = build(manifest, tmp_path)
    wanted = [image.copy() for image in cache]
    spoil(cache.path, flipped)
    broken = cache.path.read_bytes()

    def refuse(*given: object) -> None:
        raise PermissionError

    monkeypatch.setattr(cache_file.File, "write", refuse)
    assert all(np.array_equal(found, image) for found, image in zip(cache, wanted, strict=True))
    assert cache.path.read_bytes() == broken


def test_a_reading_error_of_the_disk_is_damage(manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = build(manifest, tmp_path)
    wanted = cache[4].copy()

    def fail(*given: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(cache_file.File, "read", fail)
    assert np.array_equal(cache[4], wanted)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_gives_a_wrong_image(data: st.DataObject, manifest: Manifest, tmp_path: Path) -> None:
    cache = build(manifest, tmp_path / "cache")
    whole, wanted = cache.path.read_bytes(), [image.copy() for image in cache]
    for moment in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(whole) - 1))
        junk = data.draw(st.binary(min_size=1, max_size=4000))
        keep = data.draw(st.booleans())
        spoil(cache.path, lambda old: old[:begin] + junk + (old[begin + len(junk) :] if keep else b""), moment)  # noqa: B023
        assert all(np.array_equal(found, image) for found, image in zip(cache, wanted, strict=True))


def test_several_threads_mend_side_by_side(manifest: Manifest, tmp_path: Path) -> None:
    cache = build(manifest, tmp_path)
    whole, wanted = cache.path.read_bytes(), [image.copy() for image in cache]
    rows = list(range(len(wanted))) * 30
    with ThreadPoolExecutor(4) as pool:
        for moment in range(3):
            spoil(cache.path, flipped, moment)
            found = list(pool.map(cache.__getitem__, rows))
            assert all(np.array_equal(image, wanted[row]) for row, image in zip(rows, found, strict=True))
    assert cache.path.read_bytes() == whole


def test_bytes_read_just_before_another_thread_mended_them_are_not_taken_for_sound(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = build(manifest, tmp_path)
    wanted = cache[3].copy()
    spoil(cache.path, flipped)
    read, stale = cache_file.File.read, []

    def overtaken(self: cache_file.File, count: int, offset: int) -> bytes:
        found = read(self, count, offset)
        if not stale:
            stale.append(found)
            for _ in range(2):  # the other mends the image, and finds it sound
                assert np.array_equal(cache[3], wanted)
        return found

    monkeypatch.setattr(cache_file.File, "read", overtaken)
    assert np.array_equal(cache[3], wanted)
    assert stale[0] != wanted.tobytes()


def test_an_image_that_jpeg_changes_is_mended_to_what_the_cache_held(manifest: Manifest, tmp_path: Path) -> None:
    cache = build(manifest, tmp_path, limit_gb=1e-9)
    wanted = cache[1].copy()
    assert not np.array_equal(wanted, PREPROCESS.working(cv2.imread(str(manifest.locate()[1]), cv2.IMREAD_COLOR_RGB)))
    spoil(cache.path, flipped)
    assert np.array_equal(cache[1], wanted)
