"""What a pool of ten million images costs in storage, hours and money, from what one image is measured to cost here.

Measured on real images, each figure as the cost of a further image: bytes of the manifest and of the cache (as pixels and as JPEG),
core seconds of ingest, of making the cache and of the fingerprint by which near-duplicates are found, the search for them at two sizes,
core seconds to read an image and make its views from the cache and from tar shards, and for every network the seconds of a SimCLR step
through the whole path (cache, views, loader, Lightning, history) and the operations it takes.

Then multiplied: for this machine the measured seconds, for GPUs the operations over the published peak times the share of it that is
assumed (`--utilisation`). No GPU is run, and no price is built in: name yours with `--price` and `--storage-price`.

    python benchmarks/sizing.py [--images FOLDER] [--pool 10000000] [--epochs 100] [--price 'H100 SXM=3' ...] [--measured FIGURES.json]

`--measured` takes the figures per image from an earlier run's JSON, so that other sizes, shares and prices answer at once.
"""

from __future__ import annotations

import argparse
import json
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import isograft
from extrapolation import PEAK_TFLOPS, Network, Pool, preparation, search, storage, training
from harness import DATA, arguments, described, finish, parser, significant
from isograft.data.cache import ImageCache
from isograft.data.hashing import perceptual_hashes, thumbnail
from isograft.data.loader import ViewLoader, ViewSpec
from isograft.data.look import looks
from isograft.data.manifest import Manifest
from isograft.data.policy import POLICIES
from isograft.data.preprocess import Preprocess
from isograft.data.shard_images import ShardImages
from isograft.train.start import WORKING_MARGIN
from machine import cores
from material import files_of, subset
from throughput import Case, pipeline_rate, planned, trained
from watching import watch

HERE = "this machine"
ROUNDS = 5
"""Ingest is measured so often, and the least counts: what a further image costs is a small difference."""

NO_ROOM = 1e-9
"""A limit in GB under which every cache is kept as JPEG."""


def further(few: float, many: float, images: int) -> float:
    """The cost of a further image, from all of them and from the first half."""
    return max(0.0, many - few) / (images - images // 2)


def cpu_seconds(work: Callable[[], object]) -> float:
    """What the work takes of a core."""
    began = time.process_time()
    work()
    return time.process_time() - began


def ingest_seconds(images: Path, manifests: list[Manifest]) -> float:
    """Core seconds of ingest on one thread; the manifest is added to the others."""
    out = images.with_suffix(".parquet")
    return cpu_seconds(lambda: manifests.append(isograft.ingest(images, out=out, threads=1)))


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything about one image, in the order in which a run meets it."""
    paths = files_of(args.images, args.count)
    counts = (len(paths) // 2, len(paths))
    folders = [subset(args.images, folder / f"images-{count}", count) for count in counts]
    manifests: list[Manifest] = []
    spent = [[ingest_seconds(images, manifests) for images in folders] for _ in range(1 + ROUNDS)][1:]  # the first loads what is needed
    ingest = further(*map(min, zip(*spent, strict=True)), len(paths))
    half, whole = (manifest.path.stat().st_size for manifest in manifests[-2:])
    pool = manifests[-1].usable()
    found: dict[str, Any] = {
        "images": len(pool),
        "folder": args.images.name,
        "bytes": {"originals": sum(path.stat().st_size for path in paths) / len(paths), "manifest": further(half, whole, len(paths))},
        "core_seconds": {
            "ingest": ingest,
            "its share for near-duplicates": fingerprint_seconds(paths),
        },
    }
    caches = {}
    for size in args.sizes:
        for coded in (False, True):
            name = f"cache at {size} px{', as JPEG' if coded else ''}"
            seconds, caches[size, coded] = build(pool, size, coded, folder / name)
            found["core_seconds"][name] = seconds / len(pool)
            found["bytes"][name] = caches[size, coded].path.stat().st_size / len(set(pool.frame["pixel_hash"]))
    size, shard = args.sizes[-1], in_a_shard(paths, folder / "shard")
    found["feeding"] = {
        "from the cache, as JPEG": feeding(caches[size, True], pool, args.batch_size, size),
        "from tar shards": feeding(ShardImages(shard, preprocess_at(size)).in_blocks(), shard, args.batch_size, size),
    }
    found["networks"] = {name: train(name, args, caches[args.sizes[-1], True], pool) for name in args.networks}
    found["search"] = searched(args.search, folder / "search.json")
    return found


def searched(sizes: list[int], out: Path) -> list[dict[str, Any]]:
    """Seconds and memory of the search for near-duplicates, in processes that have loaded nothing else."""
    script = Path(__file__).with_name("duplicates.py")
    watch([sys.executable, str(script), "--images", *map(str, sizes), "--json", str(out)])
    return list(json.loads(out.read_text())["sizes"])


def fingerprint_seconds(paths: list[Path]) -> float:
    """Core seconds of the hash and the look of one decoded image."""
    decoded = [cv2.imread(str(path)) for path in paths[:64]]
    began = time.thread_time()
    small = np.stack([thumbnail(image) for image in decoded])
    perceptual_hashes(small), looks(small)
    return (time.thread_time() - began) / len(decoded)


def preprocess_at(size: int) -> Preprocess:
    """How `pretrain` prepares images for an input of so many pixels."""
    return Preprocess(image_size=size, working_size=round(WORKING_MARGIN * size))


def build(pool: Manifest, size: int, coded: bool, folder: Path) -> tuple[float, ImageCache]:
    """Make a cache on one thread: its core seconds, and the cache."""
    made: list[ImageCache] = []
    limit = {"limit_gb": NO_ROOM} if coded else {}
    return cpu_seconds(lambda: made.append(ImageCache.build(pool, preprocess_at(size), folder, threads=1, **limit))), made[0]


def train(name: str, args: argparse.Namespace, images: ImageCache, pool: Manifest) -> dict[str, Any]:
    """Seconds and operations of one image in a SimCLR step of this network, at the last size."""
    size = args.sizes[-1]
    case = Case("pretrain", name, size, args.batch_size, args.steps, cores(), Path(), pool)
    plan = planned(case)
    method, specs = trained(case, plan)
    flops = operations(method, size)
    rate = pipeline_rate(case, method, plan, specs, images)
    precision = next(entry for entry in plan if entry.name == "precision")
    return {"seconds": 1 / rate, "flops": flops, "precision": f"{precision.value}: {precision.reason}"}


def operations(method: torch.nn.Module, size: int, batch: int = 4) -> float:
    """Floating point operations of one image, forward and backward, all its views."""
    views = [torch.randn(batch, 3, size, size) for _ in range(2)]
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # fused attention on a CPU goes uncounted
        method(views).loss.backward()
    method.zero_grad()
    return counter.get_total_flops() / batch


def feeding(images: Sequence[Any], pool: Manifest, batch: int, size: int) -> float:
    """Core seconds to read one image and make its two views."""
    loader = ViewLoader(images, pool.ids(), [ViewSpec(2, size, POLICIES["dermoscopy"])], batch, 0, threads=1)
    return cpu_seconds(lambda: [None for _ in loader.epoch(0)]) / (loader.batches_per_epoch * batch)


def in_a_shard(paths: Sequence[Path], folder: Path) -> Manifest:
    """The same images as the members of a tar shard."""
    folder.mkdir()
    with tarfile.open(folder / "0.tar", "w") as archive:
        for path in paths:
            archive.add(path.resolve(), path.name)
    return isograft.ingest(folder / "0.tar", out=folder / "shard.parquet", threads=1).usable()


def extrapolated(found: Mapping[str, Any], args: argparse.Namespace, cores: int) -> dict[str, Any]:
    """The tables for the pool that is asked about."""
    pool = Pool(args.pool, args.epochs)
    feeding = found["feeding"]["from the cache, as JPEG"]
    networks = [Network(f"{name} at {args.sizes[-1]} px", one["seconds"], one["flops"], feeding) for name, one in found["networks"].items()]
    sizes, seconds, memory = ([one[key] for one in found["search"]] for key in ("images", "seconds", "peak_gigabytes"))
    return {
        "pool": {"images": args.pool, "epochs": args.epochs, "utilisation_assumed": args.utilisation},
        "storage": storage(pool, found["bytes"], args.storage_price),
        "once": preparation(pool, found["core_seconds"], cores),
        "near_duplicates": search(pool, sizes, seconds, memory),
        "training": training(pool, networks, HERE, PEAK_TFLOPS | dict(args.gpu), args.utilisation, dict(args.price)),
    }


def rounded(value: Any) -> Any:
    """A result with four digits for every measured or computed number."""
    if isinstance(value, Mapping):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return significant(value) if isinstance(value, float) else value


def named_number(text: str) -> tuple[str, float]:
    """`NAME=NUMBER` of the command line."""
    name, _, number = text.rpartition("=")
    if not name:
        raise argparse.ArgumentTypeError(f"{text} is no NAME=NUMBER")
    return name, float(number)


def options() -> argparse.Namespace:
    asked = parser(__doc__)
    asked.add_argument("--images", type=Path, default=DATA / "skin/uda1", help="folder of real images")
    asked.add_argument("--count", type=int, default=546, help="how many of them")
    asked.add_argument("--sizes", type=int, nargs="+", default=[64, 224], help="of the input in pixels; training takes the last")
    asked.add_argument("--networks", nargs="+", default=["resnet50", "vit_tiny_patch16_224"])
    asked.add_argument("--batch-size", type=int, default=16)
    asked.add_argument("--steps", type=int, default=4)
    asked.add_argument("--search", type=int, nargs="+", default=[300_000, 1_000_000], help="images searched for near-duplicates, two sizes")
    asked.add_argument("--measured", type=Path, help="JSON of an earlier run, whose figures per image are taken")
    asked.add_argument("--pool", type=int, default=10_000_000, help="images asked about")
    asked.add_argument("--epochs", type=float, default=100)
    asked.add_argument("--utilisation", type=float, default=0.35, help="share of a GPU's published peak that is assumed to be reached")
    asked.add_argument("--gpu", type=named_number, action="append", default=[], metavar="NAME=TFLOPS", help="a further GPU by its peak")
    asked.add_argument("--price", type=named_number, action="append", default=[], metavar="NAME=PER_HOUR", help=f"also of '{HERE}'")
    asked.add_argument("--storage-price", type=float, help="of a gigabyte for a month")
    small = {"count": 24, "sizes": [16, 32], "networks": ["test_resnet"], "batch_size": 8, "steps": 2, "search": [500, 2000]}
    return arguments(asked, small)


def main() -> None:
    args = options()
    with described() as result, tempfile.TemporaryDirectory() as folder:
        if args.measured:
            earlier = json.loads(args.measured.read_text())
            result["machine"], result["per_image"] = earlier["machine"], earlier["per_image"]
        else:
            result["per_image"] = measure(args, Path(folder))
        result |= extrapolated(result["per_image"], args, result["machine"]["cores"])
    finish(rounded(result), args)


if __name__ == "__main__":
    main()
