"""How far the look of a copy lies from its photograph's, and those of other groups from each other: what `SAME_LOOK` was chosen by.

The photographs that benchmarks/peers_duplicates.py plants copies of are left out (`--skip`), so that it tests the choice on others.

    python benchmarks/look_distance.py [--images FOLDER] [--skip 1000] [--count 3000] [--groups metadata.csv image_id lesion_id]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl

from harness import IMAGES, arguments, described, finish, parser, significant
from isograft.data.hashing import perceptual_distance, perceptual_hashes, thumbnail
from isograft.data.look import SAME_LOOK, Looks, look_distance, looks
from isograft.data.neighbours import REACH, within
from material import files_of
from peers_duplicates import KINDS

Copies = dict[str, tuple[Callable[[np.ndarray], np.ndarray], int]]
COPIES: Copies = {
    "re-encoded": (KINDS["re-encoded"], 50),
    "rescaled": (KINDS["rescaled"], 95),
    "turned by 90°": (KINDS["turned by 90°"], 95),
    "mirrored": (KINDS["mirrored"], 95),
    "15 % brighter": (lambda image: np.clip(image * 1.15, 0, 255).astype(np.uint8), 95),
}
"""How a copy is made, and the quality of its JPEG."""

BOUNDS = range(SAME_LOOK - 3, SAME_LOOK + 4)


def fingerprints(images: Iterable[np.ndarray]) -> tuple[np.ndarray, Looks]:
    """Hashes uint64 (N,) and looks uint64 (N, 4) of images as OpenCV reads them."""
    small = np.stack([thumbnail(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)) for image in images])
    return perceptual_hashes(small), looks(small).view(np.uint64)


def copied(path: Path, change: Callable[[np.ndarray], np.ndarray], quality: int) -> np.ndarray:
    """A changed copy of a photograph, stored and read again."""
    changed = np.ascontiguousarray(change(cv2.imread(str(path))))
    return cv2.imdecode(cv2.imencode(".jpg", changed, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def of_copies(paths: list[Path]) -> list[dict[str, Any]]:
    """For every kind of copy the distances of the looks, and the share that is found by hash and look."""
    hashes, own = fingerprints(cv2.imread(str(path)) for path in paths)
    rows = []
    for kind, (change, quality) in COPIES.items():
        others, theirs = fingerprints(copied(path, change, quality) for path in paths)
        apart = look_distance(own, theirs)
        near = np.array([perceptual_distance(int(one), int(other)) <= REACH for one, other in zip(hashes, others, strict=True)])
        row = {"copies": kind, "median": float(np.median(apart)), "of 99 %": float(np.percentile(apart, 99)), "most": int(apart.max())}
        rows.append(row | {f"found within {bound}": significant(float((near & (apart <= bound)).mean())) for bound in BOUNDS})
    return rows


def of_others(paths: list[Path], groups: dict[str, str]) -> dict[str, int]:
    """How many pairs of different groups would be taken for one picture, by bound."""
    hashes, own = fingerprints(cv2.imread(str(path)) for path in paths)
    group = np.array([groups.get(path.stem, path.stem) for path in paths])
    found: dict[tuple[int, int], int] = {}
    for rows, columns, _ in within(hashes, hashes):
        apart = look_distance(own[rows], own[columns])
        kept = (rows < columns) & (group[rows] != group[columns]) & (apart <= BOUNDS[-1])
        found |= dict(zip(zip(rows[kept].tolist(), columns[kept].tolist(), strict=True), apart[kept].tolist(), strict=True))
    return {f"within {bound}": sum(apart <= bound for apart in found.values()) for bound in BOUNDS}


def main() -> int:
    """Print and write the figures."""
    asked = parser(__doc__)
    asked.add_argument("--images", type=Path, default=IMAGES, help="photographs")
    asked.add_argument("--skip", type=int, default=1000, help="photographs that no copies are made of")
    asked.add_argument("--count", type=int, default=3000, help="photographs that copies are made of")
    asked.add_argument("--groups", nargs=3, metavar=("CSV", "IMAGE", "GROUP"), help="which photographs show the same, by name")
    args = arguments(asked, {"skip": 0, "count": 12})
    table = pl.read_csv(args.groups[0], infer_schema=False) if args.groups else None
    groups = {} if table is None else dict(zip(table[args.groups[1]], table[args.groups[2]], strict=True))
    with described() as result:
        paths = files_of(args.images)
        result["same_look"], result["photographs"] = SAME_LOOK, len(paths)
        result["copies"] = of_copies(paths[args.skip :][: args.count])
        result["pairs_of_different_groups"] = of_others(paths, groups)
    finish(result, args)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
