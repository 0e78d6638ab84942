"""Time and memory per image from a thousand to a million images: what must be done for all of them at once, before and between the steps.

Drawn images of 32 x 32 pixels in tar shards of ten thousand. Every stage is a process of its own: ingest, opening the manifest, the
search for near-duplicates (every pair is compared in effect), making the cache and opening it, the first batch of an epoch (which
needs the order of all), and listing what predict is asked about. Memory is the peak of the process less what it held once its
modules were loaded.

Claim: a million images cost per image at most twice the time of ten thousand, for everything but the near-duplicates, which may
cost ten times.

    python benchmarks/growth.py [--counts 1000 10000 100000 1000000] [--stages ingest open ...] [--work FOLDER]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness import arguments, described, finish, parser, significant
from machine import cores
from material import shards

MOST = {"near-duplicates": 10.0}
MOST_OTHERWISE = 2.0
LONGEST_S = 3600.0
SIDE = 16


def _ingest(folder: Path, threads: int) -> Callable[[], object]:
    import isograft

    return lambda: isograft.ingest(folder / "shards", out=folder / "images.parquet", threads=threads)


def _open(folder: Path, threads: int) -> Callable[[], object]:
    from isograft.data.manifest import Manifest

    def run() -> object:
        manifest = Manifest.read(folder / "images.parquet").usable()
        return manifest.ids(), manifest.addresses()

    return run


def _near_duplicates(folder: Path, threads: int) -> Callable[[], object]:
    from isograft.data.duplicates import near_duplicates
    from isograft.data.manifest import Manifest

    frame = Manifest.read(folder / "images.parquet").usable().frame
    return lambda: sum(len(rows) for rows, _ in near_duplicates(frame))


def _cache(folder: Path, threads: int) -> Callable[[], object]:
    from isograft.data.cache import ImageCache
    from isograft.data.manifest import Manifest
    from isograft.data.preprocess import Preprocess

    manifest = Manifest.read(folder / "images.parquet").usable()
    preprocess = Preprocess(image_size=SIDE, working_size=SIDE)
    return lambda: ImageCache.build(manifest, preprocess, folder / "cache", threads)


def _first_batch(folder: Path, threads: int) -> Callable[[], object]:
    from isograft.data.loader import ViewLoader, ViewSpec
    from isograft.data.manifest import Manifest
    from isograft.data.policy import POLICIES

    ids = Manifest.read(folder / "images.parquet").usable().ids()

    class Blank(Sequence[Any]):
        """As many images as there are, without reading them."""

        shapes = np.full((len(ids), 2), SIDE, np.int64)

        def __len__(self) -> int:
            return len(ids)

        def __getitem__(self, row: Any) -> Any:
            return np.zeros((SIDE, SIDE, 3), np.uint8)

    loader = ViewLoader(Blank(), ids, [ViewSpec(2, SIDE, POLICIES["general"])], 64, 0, threads=threads)

    def run() -> object:
        batches = loader.epoch(0)
        first = next(batches)
        batches.close()  # type: ignore[attr-defined]
        return first

    return run


def _listing(folder: Path, threads: int) -> Callable[[], object]:
    from isograft.inputs import list_inputs
    from isograft.settings import PredictSettings

    settings = PredictSettings(model=folder, input=str(folder / "images.parquet"), out=folder / "out.parquet")
    return lambda: list_inputs(settings)


STAGES: dict[str, Callable[[Path, int], Callable[[], object]]] = {
    "ingest": _ingest,
    "manifest opened": _open,
    "near-duplicates": _near_duplicates,
    "cache made": _cache,
    "cache opened": _cache,
    "first batch of an epoch": _first_batch,
    "predict's list": _listing,
}


def be_stage(name: str, folder: Path, threads: int) -> None:
    """In a process of its own: load what the stage needs, run it, and print what it took."""
    run = STAGES[name](folder, threads)
    before, wall, cpu = resident(), time.perf_counter(), time.process_time()
    run()
    told = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu, "before_mb": before}
    print(json.dumps({**told, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def resident() -> float:
    """MB that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def measure(name: str, count: int, folder: Path, threads: int) -> dict[str, Any]:
    """One row: a stage on so many images; a reason in place of figures where it failed."""
    command = [sys.executable, __file__, "--stage", name, "--work", str(folder), "--threads", str(threads)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        return {"stage": name, "images": count, "failed": f"took more than {LONGEST_S:.0f} s"}
    if done.returncode:
        return {"stage": name, "images": count, "failed": (done.stderr.strip() or "no reason given").splitlines()[-1]}
    told = json.loads(done.stdout.splitlines()[-1])
    held = told["peak_mb"] - told["before_mb"]
    return {
        "stage": name,
        "images": count,
        "seconds": significant(told["seconds"]),
        "us_per_image": significant(1e6 * told["seconds"] / count),
        "cpu_us_per_image": significant(1e6 * told["cpu_seconds"] / count),
        "peak_mb": round(told["peak_mb"]),
        "more_mb": significant(held),
        "bytes_per_image": round(max(0.0, held) * 2**20 / count),
    }


def grown(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For every stage: CPU time per image at the largest number over that at ten thousand, or at the smallest there is above."""
    found = []
    for stage in dict.fromkeys(row["stage"] for row in rows):
        mine = [row for row in rows if row["stage"] == stage and "failed" not in row and row["images"] >= 10_000]
        if len(mine) >= 2:
            ratio = mine[-1]["cpu_us_per_image"] / mine[0]["cpu_us_per_image"]
            most = MOST.get(stage, MOST_OTHERWISE)
            sizes = {"from": mine[0]["images"], "to": mine[-1]["images"]}
            found.append({"stage": stage, **sizes, "time_per_image_times": significant(ratio), "most_claimed": most, "met": ratio <= most})
    return found


def main() -> int:
    """Print and write the figures; 1 when a stage grows more than claimed, or failed."""
    asked = parser(__doc__)
    asked.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    asked.add_argument("--stages", nargs="+", default=list(STAGES), choices=list(STAGES), help="only these; all need ingest")
    asked.add_argument("--threads", type=int, default=cores())
    asked.add_argument("--work", type=Path, help="where the images are made, 2 GB per million; they are kept [default: a temporary folder]")
    asked.add_argument("--stage", choices=list(STAGES), help=argparse.SUPPRESS)
    args = arguments(asked, {"counts": [100, 200], "threads": 1})
    if args.stage:
        be_stage(args.stage, args.work, args.threads)
        return 0
    rows: list[dict[str, Any]] = []
    with described() as result, tempfile.TemporaryDirectory() as temporary:
        for count in sorted(args.counts):
            folder = (args.work or Path(temporary)) / str(count)
            if not (folder / "shards").exists():
                shards(folder / "shards", count, seed=count)
            for name in args.stages:
                rows.append(measure(name, count, folder, args.threads))
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        result["stages"], result["growth"] = rows, grown(rows)
        result["failed"] = [row for row in rows if "failed" in row]
        shares = [row["time_per_image_times"] / row["most_claimed"] for row in result["growth"]]
        result["most_growth_over_claimed"] = significant(max(shares)) if shares else None
    finish(result, args)
    return int(bool(result["failed"]) or not all(row["met"] for row in result["growth"]))


if __name__ == "__main__":
    raise SystemExit(main())
