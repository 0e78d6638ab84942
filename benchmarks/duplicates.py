"""How long the search for near-duplicates takes, and how much memory, as the number of images grows.

Hashes and looks are drawn at random: as many on one side as on the other, and one in a hundred planted as a copy with up to seven
changed bits in one of eight orientations. Real hashes are less evenly spread, so real searches compare more; `--manifest` measures that
too, on a manifest against itself. With `--searched` only so many images are searched for among all others, so that the curve can be
followed to where the whole would take hours. Every size runs in a process of its own, so that its peak of memory is its own.

Claim: one million images against one million in minutes, in less than 4 GB.

    python benchmarks/duplicates.py [--images 10000 100000 1000000] [--searched 100000] [--manifest M.parquet]
"""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import numpy as np
import polars as pl

from harness import arguments, described, finish, parser
from isograft.data.duplicates import copies_of, near_duplicates
from isograft.data.hashing import variants
from isograft.data.manifest import Manifest
from machine import peak_gb

MOST_GIGABYTES = 4.0
BATCH = 1_000_000


def drawn(count: int, seed: int) -> tuple[pl.DataFrame, np.ndarray]:
    """Random hashes with looks, and their looks as bytes."""
    draw = np.random.default_rng(seed)
    hashes = draw.integers(1, 2**64, count, dtype=np.uint64)
    looks = draw.integers(0, 256, (count, 32), dtype=np.uint8)
    return pl.DataFrame({"perceptual_hash": hashes, "look": [look.tobytes().hex() for look in looks]}), hashes


def measure(count: int, searched: int) -> dict[str, float]:
    """Search `searched` images among `count` others, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (count, searched))


def _measure(count: int, searched: int) -> dict[str, float]:
    others, hashes = drawn(count, 0)
    ones, mine = drawn(searched, 1)
    planted = np.arange(0, searched, 100)
    draw = np.random.default_rng(2)
    copies = variants(hashes[planted])[draw.integers(0, 8, len(planted)), np.arange(len(planted))]
    for _ in range(7):
        copies ^= np.uint64(1) << draw.integers(0, 64, len(planted)).astype(np.uint64)
    mine[planted] = copies
    looks = ones["look"].to_numpy().copy()
    looks[planted] = others["look"].to_numpy()[planted]
    ones = pl.DataFrame({"perceptual_hash": mine, "look": looks})
    began = time.perf_counter()
    found = copies_of(ones, others)
    seconds = time.perf_counter() - began
    return {
        "images": count,
        "searched": searched,
        "seconds": round(seconds, 2),
        "images_per_second": round(searched / seconds),
        "peak_gigabytes": round(peak_gb(), 3),
        "planted_found": round(float((found[planted] == planted).mean()), 4),
        "others_found": int((found >= 0).sum() - (found[planted] >= 0).sum()),
    }


def real(path: Path) -> dict[str, float]:
    """Search a manifest in itself."""
    frame = Manifest.read(path).usable().frame
    began = time.perf_counter()
    pairs = {(int(a), int(b)) for rows, columns in near_duplicates(frame) for a, b in zip(rows, columns, strict=True)}
    return {"images": len(frame), "seconds": round(time.perf_counter() - began, 2), "pairs": len(pairs)}


def main() -> int:
    """Print and write the figures; 1 when more memory was taken than claimed."""
    asked = parser(__doc__)
    asked.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="images on each side")
    asked.add_argument("--manifest", type=Path, help="a manifest to search in itself")
    asked.add_argument("--searched", type=int, help="images searched for [default: as many]")
    given = arguments(asked, {"images": [500, 2000]})
    with described() as result:
        grown = [measure(count, min(count, given.searched or count)) for count in given.images]
        result["sizes"] = grown
        result["least_planted_found"] = min(one["planted_found"] for one in grown)
        result["most_gigabytes"] = max(one["peak_gigabytes"] for one in grown)
        if given.manifest is not None:
            result["real"] = {"manifest": given.manifest.name, **real(given.manifest)}
    finish(result, given)
    return int(any(one["peak_gigabytes"] > MOST_GIGABYTES for one in grown if one["images"] <= BATCH))


if __name__ == "__main__":
    raise SystemExit(main())
