"""How fast ingest is beside bare OpenCV decoding, as a ratio in one run.

Both sides use the same files, order and number of threads. Bare decoding is `cv2.imread` in a plain loop per thread, with the
files dealt out before the clock starts and every result thrown away: nothing is checked, hashed or written down. Ingest reads,
bounds, checks, decodes, hashes (SHA-256 of the pixels, perceptual hash) and keeps one row per file. The two sides take turns,
and the median over the rounds is given, for wall time and for CPU time (which other programs disturb less).

What bounds the ratio is the SHA-256 of the decoded pixels: about 1.4 GB/s on one core with SHA instructions, where OpenCV decodes
small, strongly compressed JPEGs at 0.5 GB/s of pixels. There the hash alone costs a third of a decode; for PNG it costs little.

    python benchmarks/ingest.py FOLDER [FOLDER ...] [--images 1000] [--threads 2] [--rounds 5]
"""

from __future__ import annotations

import hashlib
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2

from harness import arguments, described, finish, parser
from isograft.data.decode import core_count, decode_all, quiet_opencv
from isograft.data.files import find_images
from isograft.data.hashing import pixel_hash, thumbnail


def bare(paths: list[str], threads: int) -> None:
    """Decode with OpenCV and nothing else."""

    def loop(part: list[str]) -> None:
        for path in part:
            cv2.imread(path)

    with quiet_opencv(), ThreadPoolExecutor(threads) as pool:
        list(pool.map(loop, [paths[place::threads] for place in range(threads)]))


def clock(work, *arguments) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work(*arguments)
    return time.perf_counter() - wall, time.process_time() - cpu


def share(paths: list[str]) -> dict[str, float]:
    """CPU time on one thread of each part, as a share of `cv2.imread`, summed over a sample of the files."""
    spent = dict.fromkeys(("imread", "sha256", "perceptual"), 0.0)
    for path in paths[:: max(1, len(paths) // 200)]:
        marks = [time.thread_time()]
        image = cv2.imread(path)
        marks.append(time.thread_time())
        pixel_hash(image)
        marks.append(time.thread_time())
        thumbnail(image)
        marks.append(time.thread_time())
        for name, start, end in zip(spent, marks, marks[1:], strict=False):
            spent[name] += end - start
    return {name: round(value / spent["imread"], 3) for name, value in spent.items() if name != "imread"}


def measure(folder: Path, count: int, threads: int, rounds: int) -> dict[str, object]:
    everything = [image.path for image in find_images([folder]).images]
    paths = sorted(everything, key=lambda path: hashlib.sha256(path.encode()).digest())[:count]
    bare(paths, threads)  # files into the page cache
    pairs = [(clock(bare, paths, threads), clock(decode_all, paths, 10**9, threads, lambda _: None)) for _ in range(rounds)]
    return {
        "folder": folder.name,
        "images": len(paths),
        "threads": threads,
        "bare_images_per_s": round(len(paths) / statistics.median(one[0] for one, _ in pairs)),
        "ingest_images_per_s": round(len(paths) / statistics.median(other[0] for _, other in pairs)),
        "ratio_wall": round(statistics.median(one[0] / other[0] for one, other in pairs), 3),
        "ratio_cpu": round(statistics.median(one[1] / other[1] for one, other in pairs), 3),
        **{f"{part}_beside_decoding": cost for part, cost in share(paths).items()},
    }


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("folders", nargs="+", type=Path)
    asked.add_argument("--images", type=int, default=1000)
    asked.add_argument("--threads", type=int, default=core_count())
    asked.add_argument("--rounds", type=int, default=5)
    options = arguments(asked, {"images": 40, "rounds": 1})
    with described() as result:
        result["folders"] = [measure(folder, options.images, options.threads, options.rounds) for folder in options.folders]
        result["least_ratio_wall"] = min(row["ratio_wall"] for row in result["folders"])
    finish(result, options)


if __name__ == "__main__":
    main()
