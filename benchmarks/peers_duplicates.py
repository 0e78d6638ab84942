"""Near-duplicates against imagededup (PHash): what is found of planted copies, what else is reported, time and memory, on the same files.

Of some photographs copies are planted: re-encoded, rescaled, turned by 90°, mirrored, cropped, and turned by 10° (which ours does
not claim to find). Every way is a command that reads the same folder from files to pairs; they take turns. Ours runs twice: by the
hashes of the manifest alone, as every training does, and as an audit does, with cropped copies and a look at the pixels. Recall is
the share of copies that are paired with their photograph; other pairs are those of photographs that are no copies of each other (in
HAM10000 some truly are).

Claim: at least 0.99 of re-encoded, rescaled, turned and mirrored copies by hash, and of cropped ones by audit.

    python benchmarks/peers_duplicates.py [--images FOLDER] [--count 1000] [--copies 200] [--peer-python VENV/bin/python]
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import peers
from harness import IMAGES, arguments, described, finish, parser, significant
from machine import cores
from material import files_of, photographs
from watching import Watched, watch

MARK = "--"
CLAIMED = {"by hash": ("re-encoded", "rescaled", "turned by 90°", "mirrored"), "audit": ("cropped by 5 %",)}
LEAST = 0.99
PEER = "imagededup PHash"

_IMAGEDEDUP = """
import json, sys, warnings
warnings.simplefilter("ignore")
from imagededup.methods import PHash
if __name__ == "__main__":
    hasher, workers = PHash(verbose=False), int(sys.argv[3])
    codes = hasher.encode_images(image_dir=sys.argv[1], num_enc_workers=workers)
    found = hasher.find_duplicates(encoding_map=codes, num_dist_workers=workers)
    with open(sys.argv[2], "w") as out:
        json.dump([[one, other] for one, others in found.items() for other in others], out)
"""


def turned(image: np.ndarray, degrees: float) -> np.ndarray:
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)


def cropped(image: np.ndarray, share: float) -> np.ndarray:
    """The image without so much of its width and height, cut off at the upper left."""
    return image[round(share * image.shape[0]) :, round(share * image.shape[1]) :]


KINDS: dict[str, Any] = {
    "re-encoded": lambda image: image,
    "rescaled": lambda image: cv2.resize(image, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA),
    "turned by 90°": lambda image: np.rot90(image),
    "mirrored": lambda image: image[:, ::-1],
    "cropped by 5 %": lambda image: cropped(image, 0.05),
    "cropped by 10 %": lambda image: cropped(image, 0.1),
    "turned by 10°": lambda image: turned(image, 10),
}


def plant(source: Path, folder: Path, count: int, copies: int) -> None:
    """So many photographs, and of the first some a copy of every kind, as JPEG of quality 95, the re-encoded of 50."""
    folder.mkdir(parents=True)
    for number, path in enumerate(files_of(source, count)):
        (folder / f"{path.stem}{path.suffix}").symlink_to(path.resolve())
        if number < copies:
            image = cv2.imread(str(path))
            for kind, change in KINDS.items():
                quality = [cv2.IMWRITE_JPEG_QUALITY, 50 if kind == "re-encoded" else 95]
                cv2.imwrite(str(folder / f"{path.stem}{MARK}{kind}.jpg"), np.ascontiguousarray(change(image)), quality)


def search(folder: Path, out: Path, threads: int, thorough: bool) -> None:
    """What ours does, in a process of its own: from files to pairs of names."""
    import isograft
    from isograft.audit.copies import copies
    from isograft.audit.survey import survey
    from isograft.data.duplicates import near_duplicates

    manifest = isograft.ingest(folder, out=out.with_suffix(".parquet"), threads=threads)
    names = [place.name for place in manifest.addresses()]
    if thorough:
        looked = survey("images", manifest, threads)
        names = [place.name for place in looked.manifest.addresses()]
        pairs = copies(looked).select("row", "other").rows()
    else:
        pairs = [(int(a), int(b)) for rows, others in near_duplicates(manifest.usable().frame) for a, b in zip(rows, others, strict=True)]
    out.write_text(json.dumps([[Path(names[a]).name, Path(names[b]).name] for a, b in pairs]))


def scored(pairs: Sequence[Sequence[str]], photographs: Sequence[str]) -> dict[str, Any]:
    """Recall by kind, and how many pairs were reported that were not planted."""
    found = {frozenset(pair) for pair in pairs}
    origin = {name: Path(name).stem.partition(MARK)[0] for pair in found for name in pair}
    stems = {Path(name).stem: name for name in photographs}
    recall = {}
    for kind in KINDS:
        planted = [name for name in photographs if f"{MARK}{kind}." in name]
        hits = sum(frozenset((name, stems[Path(name).stem.partition(MARK)[0]])) in found for name in planted)
        recall[kind] = significant(hits / len(planted))
    others = {frozenset(origin[name] for name in pair) for pair in found}
    return {**recall, "other_pairs": sum(len(pair) == 2 for pair in others)}


def commands(folder: Path, threads: int, python: Path | None) -> dict[str, tuple[list[str], dict[str, str] | None]]:
    """Every way by name: a command to which the file of its answer is added, and its environment."""
    mine = [sys.executable, __file__, "--search", str(folder), "--threads", str(threads)]
    ways: dict[str, tuple[list[str], dict[str, str] | None]] = {"by hash": (mine, None), "audit": ([*mine, "--thorough"], None)}
    if python is not None:
        ways[PEER] = ([str(python), "-c", _IMAGEDEDUP, str(folder)], peers.environment())
    return ways


def measure(
    ways: Mapping[str, tuple[list[str], dict[str, str] | None]], folder: Path, work: Path, args: argparse.Namespace
) -> list[dict[str, Any]]:
    """Run every way in turns; rows with seconds, memory and recall."""
    runs: dict[str, list[Watched]] = {way: [] for way in ways}
    for _, (way, (command, env)) in itertools.product(range(args.rounds), ways.items()):
        out = work / f"{way}.json"
        further = [str(out), str(args.threads)] if way == PEER else ["--out", str(out)]
        runs[way].append(watch([*command, *further], env, limit=3600))
    names = [path.name for path in files_of(folder)]
    rows = []
    for way, found in runs.items():
        row = {"way": way, "seconds": significant(statistics.median(one.seconds for one in found))}
        row |= {"cpu_seconds": significant(statistics.median(one.cpu_seconds for one in found))}
        row |= {"peak_memory_mb": round(max(one.pss_mb for one in found))}
        rows.append(row | scored(json.loads((work / f"{way}.json").read_text()), names))
    return rows


def main() -> int:
    """Print and write the figures; 1 when fewer copies are found than claimed."""
    asked = parser(__doc__)
    asked.add_argument("--images", type=Path, default=IMAGES, help="photographs that are no copies of each other")
    asked.add_argument("--count", type=int, default=1000, help="photographs")
    asked.add_argument("--copies", type=int, default=200, help="of how many of them copies are planted")
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--threads", type=int, default=cores())
    asked.add_argument("--search", type=Path, help=argparse.SUPPRESS)
    asked.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    asked.add_argument("--thorough", action="store_true", help=argparse.SUPPRESS)
    peers.add_options(asked, "imagededup")
    args = arguments(asked, {"images": None, "count": 60, "copies": 20, "rounds": 1})
    if args.search is not None:
        search(args.search, args.out, args.threads, args.thorough)
        return 0
    python = None
    with described() as result, tempfile.TemporaryDirectory() as work:
        try:
            python = peers.find("imagededup", args.peer_python, args.install)
            result["peer"] = peers.version(python, "imagededup")
        except peers.PeerMissingError as missing:
            result["skipped"] = [{"what": PEER, "why": str(missing)}]
        folder = Path(work) / "images"
        plant(args.images or photographs(Path(work) / "drawn", args.count), folder, args.count, args.copies)
        result["photographs"], result["copies_of_each_kind"], result["rounds"] = args.count, args.copies, args.rounds
        rows = measure(commands(folder, args.threads, python), folder, Path(work), args)
        by_way = {row["way"]: row for row in rows}
        result["ways"] = [{name: row[name] for name in ("way", "seconds", "cpu_seconds", "peak_memory_mb", "other_pairs")} for row in rows]
        result["recall"] = [{"way": row["way"], **{kind: row[kind] for kind in KINDS}} for row in rows]
        result["least_recall_claimed"] = min(by_way[way][kind] for way, kinds in CLAIMED.items() for kind in kinds)
        if PEER in by_way:
            result["peer_seconds_over_ours"] = {way: significant(by_way[PEER]["seconds"] / by_way[way]["seconds"]) for way in CLAIMED}
    finish(result, args)
    return int(result["least_recall_claimed"] < LEAST)


if __name__ == "__main__":
    raise SystemExit(main())
