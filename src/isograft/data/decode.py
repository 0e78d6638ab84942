"""Decode many files in threads, keeping what a manifest needs and no pixels."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import NamedTuple

import cv2
import numpy as np
from cv2.utils import logging
from numpy.typing import NDArray

from isograft.data.address import Address
from isograft.data.containers import read
from isograft.data.hashing import THUMBNAIL, perceptual_hashes, pixel_hash, thumbnail
from isograft.data.look import looks
from isograft.data.readers import ReadError, to_rgb8
from isograft.errors import Unreachable

CHUNK = 32
NOT_FETCHED = ("missing", "unreachable")


class Facts(NamedTuple):
    """What ingest keeps of one image; the field names are manifest columns. Where `status` is not `ok`, all else is None.

    Two kinds of `status` are never written to a manifest: `missing` and `unreachable`, of images that could not be fetched.
    """

    width: int | None
    height: int | None
    channels: int | None
    bits: int | None
    pixel_hash: str | None
    perceptual_hash: int | None
    look: str | None
    status: str
    reason: str | None

    @classmethod
    def bad(cls, error: ReadError | Unreachable) -> Facts:
        """An image that cannot be used."""
        return cls(None, None, None, None, None, None, None, error.status, error.reason)


def core_count() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """One OpenCV thread per caller, and no log lines about broken files: each of them is reported by its row."""
    threads = cv2.getNumThreads()
    level = logging.getLogLevel()
    cv2.setNumThreads(1)
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
        logging.setLogLevel(level)


def decode_all(places: Sequence[Address | str], max_pixels: int, threads: int, advance: Callable[[int], None]) -> list[Facts]:
    """Decode every image once.

    OpenCV and hashlib release the GIL. Files go to the threads in chunks, so that the queue costs nothing per file
    and the perceptual hashes of a chunk share one matrix product.

    Args:
        places: Where they lie.
        max_pixels: Larger images are not decoded.
        threads: Number of threads.
        advance: Told how many more images are done; called from this thread.

    Returns:
        One `Facts` per image, in order.
    """
    stop = threading.Event()
    size = max(1, min(CHUNK, -(-len(places) // threads)))
    chunks = [places[start : start + size] for start in range(0, len(places), size)]
    results: list[list[Facts]] = [[]] * len(chunks)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="isograft-decode")
    with quiet_opencv():
        try:
            order: dict[Future[list[Facts]], int] = {
                pool.submit(_decode_chunk, chunk, max_pixels, stop): number for number, chunk in enumerate(chunks)
            }
            for future in as_completed(order):
                results[order[future]] = future.result()
                advance(len(chunks[order[future]]))
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
    return [facts for chunk in results for facts in chunk]


def _decode_chunk(places: Sequence[Address | str], max_pixels: int, stop: threading.Event) -> list[Facts]:
    rows: list[Facts] = []
    good: list[int] = []
    thumbnails = np.empty((len(places), THUMBNAIL, THUMBNAIL, 3), np.uint8)
    for place in places:
        if stop.is_set():
            break
        try:
            rows.append(_decode_one(place, max_pixels, thumbnails[len(good)]))
        except (ReadError, Unreachable) as error:
            rows.append(Facts.bad(error))
            continue
        except Exception as error:
            error.add_note(f"while reading {place}")
            raise
        good.append(len(rows) - 1)
    small = thumbnails[: len(good)]
    for row, value, look in zip(good, perceptual_hashes(small).tolist(), looks(small), strict=True):
        rows[row] = rows[row]._replace(perceptual_hash=value, look=look.tobytes().hex())
    return rows


def _decode_one(place: Address | str, max_pixels: int, small: NDArray[np.uint8]) -> Facts:
    """Read one image and leave its thumbnail in `small`."""
    pixels = read(place, max_pixels)
    array = pixels.array
    shrunk = thumbnail(array if array.dtype == np.uint8 else to_rgb8(array))  # type: ignore[arg-type]
    small[...] = shrunk if shrunk.ndim == 3 else shrunk[..., None]
    height, width = array.shape[:2]
    channels = 1 if array.ndim == 2 else 3
    return Facts(width, height, channels, pixels.bits, pixel_hash(array), None, None, "ok", pixels.note or None)
