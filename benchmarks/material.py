"""Images and models made on the spot, for benchmarks of speed and memory, where content does not matter."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

PER_SHARD = 10_000
SUFFIXES = {".jpg", ".jpeg", ".png"}


def coded(count: int, width: int, height: int, seed: int = 0) -> Iterator[bytes]:
    """So many different smooth colour JPEGs; no two are near-duplicates by more than chance."""
    draw = np.random.default_rng(seed)
    for _ in range(count):
        coarse = draw.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        yield cv2.imencode(".jpg", cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))[1].tobytes()


def photographs(folder: Path, count: int, width: int = 200, height: int = 150, classes: int = 1, seed: int = 0) -> Path:
    """A folder of such images, in so many class folders when there are several."""
    for number, image in enumerate(coded(count, width, height, seed)):
        target = folder / (f"class{number % classes}" if classes > 1 else "") / f"{number:07}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(image)
    return folder


def shards(folder: Path, count: int, width: int = 32, height: int = 32, seed: int = 0) -> Path:
    """A folder of tar shards of ten thousand such images each."""
    folder.mkdir(parents=True, exist_ok=True)
    images = coded(count, width, height, seed)
    for first in range(0, count, PER_SHARD):
        with tarfile.open(folder / f"part-{first // PER_SHARD:05}.tar", "w") as shard:
            for number in range(first, min(first + PER_SHARD, count)):
                image = next(images)
                member = tarfile.TarInfo(f"{number:07}.jpg")
                member.size = len(image)
                shard.addfile(member, io.BytesIO(image))
    return folder


def files_of(folder: Path, count: int | None = None) -> list[Path]:
    """The images of a folder in the order of their names, at most so many.

    Raises:
        SystemExit: It holds none.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)[:count]
    if not found:
        raise SystemExit(f"{folder} holds no image; name another folder with --images")
    return found


def subset(source: Path, target: Path, count: int | None) -> Path:
    """A flat folder of links to the first images of another."""
    target.mkdir(parents=True, exist_ok=True)
    for path in files_of(source, count):
        (target / path.name).symlink_to(path.resolve())
    return target


def classifier(folder: Path, images: Path, backbone: str, size: int, count: int = 120) -> Path:
    """A model folder: a probe on random features, of two made-up classes; as fast as any other of its backbone and size."""
    import isograft

    if not (folder / "model.json").exists():
        for number, path in enumerate(files_of(images, count)):
            target = folder.with_name(f"{folder.name}-images") / f"class{number % 2}" / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        source = str(folder.with_name(f"{folder.name}-images"))
        options = {"init": "scratch", "backbone": backbone, "image_size": size, "strategy": "probe"}
        isograft.finetune(source, out=folder, cache_dir=folder.with_name("cache"), **options)
    return folder
