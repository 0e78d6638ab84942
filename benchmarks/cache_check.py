"""What it costs to check an image of the cache each time it is read, against reading it and rendering its views.

A checksum over all its bytes, or the question whether the file has been written to since. Both and the rendering take turns in one
process, on one thread; medians of several rounds.

    python benchmarks/cache_check.py
"""

from __future__ import annotations

import os
import tempfile
import time
import zlib
from collections.abc import Callable

import numpy as np

from isograft.data.augment import render_opencv, sample_views
from isograft.data.policy import POLICIES
from isograft.data.render import one_thread_per_call, padded

IMAGES, ROUNDS = 64, 9
CASES = ((72, 64), (144, 128), (256, 224))  # working size of a 4:3 image, and side of its two views


def measure(working: int, size: int) -> dict[str, float]:
    """Microseconds per image for `render`, `checksum` and `stamp`."""
    shape = (working, working * 4 // 3, 3)
    data = np.random.default_rng(0).integers(0, 256, (IMAGES, *shape), dtype=np.uint8)
    ids, heights, widths = np.arange(IMAGES, dtype=np.uint64), np.full(IMAGES, shape[0]), np.full(IMAGES, shape[1])
    out = np.empty((IMAGES, size, size, 3), np.uint8)
    with tempfile.TemporaryFile() as file:
        file.write(data.tobytes())
        file.flush()
        count, place = data[0].nbytes, file.fileno()

        def render() -> None:
            images = [padded(np.frombuffer(os.pread(place, count, row * count), np.uint8).reshape(shape)) for row in range(IMAGES)]
            for view in range(2):
                views = sample_views(POLICIES["dermoscopy"], 0, 0, ids, view, heights, widths, size)
                render_opencv(images, views, size, out, 0, IMAGES)

        def checksum() -> None:
            for image in data:
                zlib.crc32(image)

        def stamp() -> None:
            for _ in range(IMAGES):
                facts = os.fstat(place)
                _ = (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)

        tasks: dict[str, Callable[[], None]] = {"render": render, "checksum": checksum, "stamp": stamp}
        seconds: dict[str, list[float]] = {name: [] for name in tasks}
        for _ in range(ROUNDS):
            for name, task in tasks.items():
                began = time.perf_counter()
                task()
                seconds[name].append(time.perf_counter() - began)
    return {name: float(np.median(taken)) / IMAGES * 1e6 for name, taken in seconds.items()}


def main() -> None:
    one_thread_per_call()
    for working, size in CASES:
        cost = measure(working, size)
        shares = ", ".join(f"{name} {cost[name]:.1f} us ({cost[name] / cost['render']:.1%})" for name in ("checksum", "stamp"))
        print(f"two views of {size} px from {working} px: {cost['render']:.0f} us per image; {shares}")


if __name__ == "__main__":
    main()
