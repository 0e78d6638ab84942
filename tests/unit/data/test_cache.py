"""The cache of decoded images."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from isograft.data import cache_build
from isograft.data.cache import ImageCache
from isograft.data.cache_build import make_room
from isograft.data.hashing import pixel_hash
from isograft.data.manifest import Manifest
from isograft.data.preprocess import Preprocess
from isograft.data.readers import read_image
from isograft.errors import IsograftError

PREPROCESS = Preprocess(image_size=16, working_size=20)


@pytest.fixture
def manifest(image_tree: Path, write_image: Callable[[Path, np.ndarray], Path]) -> Manifest:
    """Twelve images of the tree and one of another shape."""
    write_image(image_tree / "wide.png", np.arange(30 * 90 * 3, dtype=np.uint32).astype(np.uint8).reshape(30, 90, 3))
    return manifest_of(sorted(image_tree.rglob("*.png")))


def manifest_of(paths: list[Path]) -> Manifest:
    arrays = [read_image(path, 10**6).array for path in paths]
    frame = pl.DataFrame(
        {
            "id": [pixel_hash(array)[:16] for array in arrays],
            "uri": [path.name if path.parent.name not in {"dark", "light"} else f"{path.parent.name}/{path.name}" for path in paths],
            "width": [array.shape[1] for array in arrays],
            "height": [array.shape[0] for array in arrays],
            "pixel_hash": [pixel_hash(array) for array in arrays],
            "status": ["ok"] * len(arrays),
        }
    )
    root = paths[0].parent.parent if paths[0].parent.name in {"dark", "light"} else paths[0].parent
    return Manifest(frame, root / "manifest.parquet")


def build(manifest: Manifest, folder: Path, **options: float) -> ImageCache:
    return ImageCache.build(manifest, PREPROCESS, folder, threads=2, **options)


def test_it_holds_every_image_at_working_size_without_loss(manifest: Manifest, tmp_path: Path) -> None:
    cache = build(manifest, tmp_path / "cache")
    assert len(cache) == len(manifest) == 13
    for row, path in enumerate(manifest.locate()):
        wanted = PREPROCESS.working(read_image(path, 10**6).array)
        assert np.array_equal(cache[row], wanted)
        assert tuple(cache.shapes[row]) == wanted.shape[:2]


def test_a_second_opening_decodes_nothing(manifest: Manifest, tmp_path: Path) -> None:
    first = build(manifest, tmp_path / "cache")
    for path in manifest.locate():
        path.unlink()
    again = build(manifest, tmp_path / "cache")
    assert again.path == first.path
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))


def test_order_and_repetition_of_rows_do_not_matter(manifest: Manifest, tmp_path: Path) -> None:
    first = build(manifest, tmp_path / "cache")
    backwards = Manifest(pl.concat([manifest.frame.reverse(), manifest.frame.head(1)]), manifest.path)
    again = build(backwards, tmp_path / "cache")
    assert again.path == first.path
    assert len(again) == 14
    assert np.array_equal(again[12], first[0])
    assert np.array_equal(again[13], first[0])


def test_other_images_and_other_sizes_get_other_files(manifest: Manifest, tmp_path: Path) -> None:
    caches = [
        build(manifest, tmp_path),
        build(Manifest(manifest.frame.head(5), manifest.path), tmp_path),
        ImageCache.build(manifest, Preprocess(image_size=16, working_size=21), tmp_path, 1),
    ]
    assert len({cache.path for cache in caches}) == 3


def test_building_leaves_one_file_and_the_same_bytes_for_any_thread_count(manifest: Manifest, tmp_path: Path) -> None:
    files = []
    for threads in (1, 2, 4):
        folder = tmp_path / str(threads)
        files.append(ImageCache.build(manifest, PREPROCESS, folder, threads).path.read_bytes())
        assert len(list(folder.iterdir())) == 1
    assert files[0] == files[1] == files[2]


def damage_by_cutting(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def damage_by_emptying(path: Path) -> None:
    path.write_bytes(b"")


def damage_by_flipping_the_index(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


def damage_by_growing(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(b"more" + data)


@pytest.mark.parametrize("damage", [damage_by_cutting, damage_by_emptying, damage_by_flipping_the_index, damage_by_growing])
def test_a_damaged_cache_is_built_again_and_this_is_said(
    damage: Callable[[Path], None], manifest: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = build(manifest, tmp_path / "cache")
    whole = cache.path.read_bytes()
    damage(cache.path)
    again = build(manifest, tmp_path / "cache")
    assert again.path.read_bytes() == whole
    assert str(cache.path) in capsys.readouterr().err.replace("\n", "")


def test_the_cache_of_other_images_under_this_name_is_not_used(manifest: Manifest, tmp_path: Path) -> None:
    cache = build(manifest, tmp_path)
    other = build(Manifest(manifest.frame.head(5), manifest.path), tmp_path)
    shutil.copy(other.path, cache.path)
    again = build(manifest, tmp_path)
    assert len(again) == 13
    assert np.array_equal(again[12], PREPROCESS.working(read_image(manifest.locate()[12], 10**6).array))


def test_a_file_whose_pixels_have_changed_is_named(
    manifest: Manifest, tmp_path: Path, write_image: Callable[[Path, np.ndarray], Path]
) -> None:
    changed = manifest.locate()[3]
    write_image(changed, np.zeros((32, 40, 3), np.uint8))
    with pytest.raises(IsograftError, match=f"{changed.name} has changed"):
        build(manifest, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_file_that_is_gone_or_broken_is_named(manifest: Manifest, tmp_path: Path) -> None:
    file = manifest.locate()[2]
    file.write_bytes(b"no image")
    with pytest.raises(IsograftError, match=file.name):
        build(manifest, tmp_path / "cache")
    file.unlink()
    with pytest.raises(IsograftError, match=file.name):
        build(manifest, tmp_path / "cache")


def test_a_full_disk_is_an_error_that_says_what_to_do(manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_build.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(IsograftError, match=r"no room.*--cache-dir"):
        build(manifest, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_folder_that_is_a_file_is_an_error(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(IsograftError, match="cannot be written"):
        build(manifest, tmp_path / "file")


def test_rows_without_pixels_are_refused(manifest: Manifest, tmp_path: Path) -> None:
    frame = manifest.frame.with_columns(pl.when(pl.col("uri") == "wide.png").then(None).otherwise(pl.col("pixel_hash")).alias("pixel_hash"))
    with pytest.raises(IsograftError, match=r"row 12 .*no pixel_hash"):
        build(Manifest(frame, manifest.path), tmp_path)


def test_caches_unused_for_longest_make_room(tmp_path: Path) -> None:
    for age, name in enumerate(["new", "middle", "old"]):
        file = tmp_path / f"images-{name}.cache"
        file.write_bytes(bytes(1000))
        os.utime(file, (10**9 - age, 10**9 - age))
    (tmp_path / "notes.txt").write_text("not ours")
    make_room(tmp_path, needed=500, limit_gb=1600e-9)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images-new.cache", "notes.txt"]


def test_opening_counts_as_use(manifest: Manifest, tmp_path: Path) -> None:
    first = build(manifest, tmp_path)
    other = build(Manifest(manifest.frame.head(5), manifest.path), tmp_path)
    for cache in (first, other):
        os.utime(cache.path, (10**9, 10**9))
    build(manifest, tmp_path)
    assert make_room(tmp_path, needed=0, limit_gb=first.path.stat().st_size * 1e-9) == [other.path]


def test_a_pool_above_the_limit_still_works_and_says_so(manifest: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(build(manifest, tmp_path, limit_gb=1e-9)) == 13
    assert "more than the" in capsys.readouterr().err.replace("\n", " ")


def test_a_pool_above_the_limit_is_kept_as_jpeg_and_hardly_changed(image_tree: Path, tmp_path: Path) -> None:
    plain = manifest_of(sorted(image_tree.rglob("*.png")))
    raw, coded = build(plain, tmp_path / "raw"), build(plain, tmp_path / "coded", limit_gb=1e-9)
    assert raw.path.name != coded.path.name
    for before, after in zip(raw, coded, strict=True):
        assert (after.shape, after.dtype) == (before.shape, np.uint8)
        difference = np.abs(before.astype(int) - after)
        assert difference.mean() < 2
    again = build(plain, tmp_path / "coded", limit_gb=1e-9).select([3, 1])
    assert all(np.array_equal(again[place], coded[row]) for place, row in enumerate([3, 1]))


def test_select_shows_rows_in_the_order_asked_for(manifest: Manifest, tmp_path: Path) -> None:
    cache = build(manifest, tmp_path)
    chosen = cache.select([7, 2, 7])
    assert len(chosen) == 3
    assert np.array_equal(chosen[0], cache[7])
    assert np.array_equal(chosen[1], cache[2])
    assert np.array_equal(chosen.shapes, cache.shapes[[7, 2, 7]])


def test_threads_read_side_by_side(manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = build(manifest, tmp_path)
    wanted = [image.copy() for image in cache]
    rows = list(range(13)) * 20
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(image, wanted[row]) for row, image in zip(rows, pool.map(cache.__getitem__, rows), strict=True))
        monkeypatch.delattr(os, "pread")
        assert all(np.array_equal(image, wanted[row]) for row, image in zip(rows, pool.map(cache.__getitem__, rows), strict=True))
