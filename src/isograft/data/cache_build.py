"""Writing an image cache: decode in threads, write in order, appear all at once, and keep the folder bounded."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn

import cv2
import numpy as np

from isograft.console import Progress, warn
from isograft.data.address import Address
from isograft.data.containers import read_unchanged
from isograft.data.readers import ReadError, to_rgb8
from isograft.errors import IsograftError
from isograft.leftovers import neighbour

if TYPE_CHECKING:
    from isograft.data.manifest import Manifest
    from isograft.data.preprocess import Preprocess

SUFFIX = ".cache"
GIGABYTE = 10**9

Entry = tuple[int, int, int, int]  # height, width, bytes, CRC-32 of the bytes

# Nearly without loss: no colour is thinned out, and the difference stays below that of the lightest colour variation.
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
JPEG_SHARE = 0.3  # of the raw size, at most, of images that are not noise


Stored = tuple[tuple[int, ...], memoryview]  # height and width, bytes to be stored


def build_cache_file(
    path: Path,
    manifest: Manifest,
    rows: Sequence[int],
    preprocess: Preprocess,
    threads: int,
    limit_gb: float,
    coded: bool,
    tail: Callable[[Iterable[Entry]], bytes],
) -> None:
    """Decode these rows of the manifest and write their working-size pixels (as JPEG if `coded`), then `tail`, to `path`.

    The file is written under another name and renamed when complete, so a reader, a second process or a
    crash never meets half a cache. It is not flushed to the disk first: checksums find what a power cut breaks.

    Raises:
        IsograftError: a file no longer decodes to the pixels of the manifest, or there is no room.
    """
    needed = round(bytes_needed(manifest, rows, preprocess) * (JPEG_SHARE if coded else 1))
    temporary = neighbour(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        make_room(path.parent, needed, limit_gb)
        if shutil.disk_usage(path.parent).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with temporary.open("wb") as stream, Progress(len(rows), "Caching") as progress:
            entries = [_append(stream, *image, progress) for image in _decoded(manifest, rows, preprocess, threads, coded)]
            stream.write(tail(entries))
        temporary.replace(path)
    except OSError as error:
        _refuse(error, path.parent, needed)
    finally:
        with contextlib.suppress(OSError):  # gone already after renaming; and no second error may hide the first
            temporary.unlink()


def make_room(folder: Path, needed: int, limit_gb: float) -> list[Path]:
    """Delete the caches unused for longest until `needed` more bytes fit into the limit.

    Returns:
        The deleted files.
    """
    deleted: list[Path] = []
    caches = sorted(_files(folder), key=lambda item: item[1].st_mtime)
    total = sum(status.st_size for _, status in caches)
    for path, status in caches:
        if total + needed <= limit_gb * GIGABYTE:
            break
        deleted.append(path)
        total -= status.st_size
    for path in deleted:
        path.unlink(missing_ok=True)
    if needed > limit_gb * GIGABYTE:
        warn(f"the cache of these images takes {needed / GIGABYTE:.1f} GB in {folder}, more than the {limit_gb:g} GB kept otherwise")
    return deleted


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in folder.glob(f"images-*{SUFFIX}"):
        try:
            yield path, path.stat()
        except FileNotFoundError:  # another process made room at the same time
            continue


def bytes_needed(manifest: Manifest, rows: Sequence[int], preprocess: Preprocess) -> int:
    """Size of a cache of these rows, uncoded."""
    sides = manifest.frame.select("height", "width")[rows].group_by("height", "width").len()
    shapes = [(*preprocess.working_shape(height, width), count) for height, width, count in sides.iter_rows()]
    needed: int = sum(height * width * 3 * count for height, width, count in shapes) + 32 * len(rows) + 128
    return needed


def _decoded(manifest: Manifest, rows: Sequence[int], preprocess: Preprocess, threads: int, coded: bool) -> Iterator[Stored]:
    """Working-size images in the order of `rows`; a few are decoded ahead, in threads."""
    places = manifest.addresses()
    pixels = (manifest.frame["height"].cast(int) * manifest.frame["width"].cast(int)).to_list()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="isograft-decode")
    waiting: deque[Future[Stored]] = deque()
    try:
        for row in rows:
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
            waiting.append(pool.submit(decode_working, places[row], pixels[row], preprocess, coded))
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def decode_working(place: Address, max_pixels: int, preprocess: Preprocess, coded: bool, data: bytes | None = None) -> Stored:
    """One image at working size, after making sure that it still is the image of the manifest; from its bytes where they are at hand.

    Raises:
        IsograftError: It cannot be read any more, or is another one.
    """
    try:
        pixels, _ = read_unchanged(place, max_pixels, data)
    except (ReadError, OSError) as error:
        raise unusable(place, error) from error
    image = np.ascontiguousarray(preprocess.working(to_rgb8(pixels.array)))
    if coded:
        return image.shape[:2], cv2.imencode(".jpg", image[..., ::-1], _JPEG)[1].data
    return image.shape[:2], image.data


def unusable(place: Address, error: ReadError | OSError) -> IsograftError:
    """What to say of an image that is not any more what it was when the manifest was made."""
    if isinstance(error, ReadError) and error.status == "changed":
        return IsograftError(f"{place} has changed since the manifest was made; restore the file, or run ingest again")
    return IsograftError(f"{place} cannot be read any more: {error}; restore the file, or run ingest again")


def _append(stream: BinaryIO, shape: tuple[int, ...], data: memoryview, progress: Progress) -> Entry:
    stream.write(data)
    progress.advance()
    return shape[0], shape[1], data.nbytes, zlib.crc32(data)


def _refuse(error: OSError, folder: Path, needed: int) -> NoReturn:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise IsograftError(
            f"no room for decoded images: {folder} needs {needed / GIGABYTE:.2f} GB more; free some space or choose another --cache-dir"
        ) from error
    raise IsograftError(f"the cache folder {folder} cannot be written ({error.strerror or error}); choose another --cache-dir") from error
