"""Pretraining against lightly-train and against a plain `lightly` loop: speed, memory, and the time to features of the same worth.

All tools get the same image files, network, batch, input size and number of threads, and run as commands that take turns, each from
image files to weights (ours: ingest, an empty cache, pretrain). What they do with the images is their own default.

Speed: every tool runs for two numbers of passes; the images of the difference over the seconds of the difference is the steady
state, and what is left is the start. Memory is that of all processes of a command, shared pages counted once.

Worth: every tool runs for a series of passes on the HAM10000 images of Vienna, whose labels it does not see. Linear probes on its
frozen features tell five of the pool's own diagnoses (50 labels each, half of the lesions held out, five splits, the same for all):
ROC AUC against seconds. The figure is how many times longer the peer takes to the AUC that it ends with; no test set of any other
benchmark is looked at. With --images the folder's own classes are told. Finished runs are kept in --out: the same command
continues.

Claims, with views of one size as the peer has them: 1.7 times the images per second of lightly-train's default run with SimCLR, in
less memory; by default: the AUC that it ends with, in a third of its time.

    python benchmarks/peers_pretrain.py --out /tmp/peers-pretrain [--peer-python VENV/bin/python] [--methods simclr dino]
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import peers
from harness import DATA, arguments, described, finish, parser, significant
from machine import cores
from material import files_of, subset
from pretraining_tools import TOOLS, Job
from watching import CommandError

PROBED = ("nv", "mel", "bkl", "bcc", "vasc")
"""Diagnoses of the Vienna images with at least a hundred images."""
OURS, PEER = "isograft", "lightly-train"
CURVES = (OURS, PEER)
SAME_VIEWS = ("isograft, one size", PEER)
AIM = 3.0
SPEED_AIM = 1.7
"""Times the images per second of lightly-train with SimCLR, which is bound by its step and not by its loader."""


def options() -> argparse.Namespace:
    asked = parser(__doc__)
    asked.add_argument("--out", type=Path, help="working folder; finished runs are kept there [default: a temporary one]")
    asked.add_argument("--data", type=Path, default=DATA, help="folder of the real images")
    asked.add_argument("--images", type=Path, help="instead, a folder with one folder per class")
    asked.add_argument("--methods", nargs="+", default=["simclr", "dino"], choices=["simclr", "dino"])
    asked.add_argument("--backbone", default="resnet18", help="a name that timm and torchvision share")
    asked.add_argument("--size", type=int, default=64)
    asked.add_argument("--batch-size", type=int, default=64)
    asked.add_argument("--threads", type=int, default=cores(), help="threads of arithmetic, and loading threads or workers")
    asked.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto", help="auto: as each tool decides")
    asked.add_argument("--cpu", action="store_true", help="keep the peer off the GPU")
    asked.add_argument("--speed-images", type=int, default=1500, help="images of the runs for speed; 0 leaves them out")
    asked.add_argument("--speed-epochs", type=int, nargs=2, default=[1, 3])
    asked.add_argument("--rounds", type=int, default=2, help="of the runs for speed")
    asked.add_argument("--pool", type=int, default=2500, help="images of the runs for worth; 0 leaves them out")
    asked.add_argument("--epochs", type=int, nargs="+", default=[1, 3, 9], help="passes of the runs for worth")
    asked.add_argument("--seeds", type=int, default=2)
    asked.add_argument("--budgets", type=int, nargs="+", default=[50], help="labels per class of the probes")
    asked.add_argument("--splits", type=int, default=5)
    peers.add_options(asked, PEER)
    smallest = {"speed_images": 16, "speed_epochs": [1, 2], "rounds": 1, "pool": 40, "epochs": [1], "seeds": 1, "budgets": [3]}
    smallest |= {"splits": 1, "size": 32, "batch_size": 8, "methods": ["simclr"]}
    return arguments(asked, smallest)


def pool(args: argparse.Namespace, out: Path) -> tuple[Path, Path]:
    """A flat folder of the unlabeled images, and a manifest of the same images with their labels."""
    import isograft

    folder, manifest = out / f"pool-{args.pool}", out / "labeled.parquet"
    if args.images is not None:
        if not manifest.exists():
            isograft.ingest(args.images, out=manifest)
        files = files_of(args.images)
    else:
        ham = args.data / "skin/ham10000"
        if not (ham / "metadata.csv").exists():
            raise SystemExit(f"there is no {ham / 'metadata.csv'}: give HAM10000 with --data, or any folder of classes with --images")
        if not manifest.exists():
            where = f"dataset != 'rosendahl' AND dx IN ({', '.join(map(repr, PROBED))})"
            columns = {"label_column": "dx", "group_column": "lesion_id", "where": where, "allow_missing": True}
            isograft.ingest(ham / "images", out=manifest, labels=ham / "metadata.csv", **columns)
        with (ham / "metadata.csv").open() as table:
            names = {row["image_id"] for row in csv.DictReader(table) if row["dataset"] != "rosendahl"}
        files = [path for path in files_of(ham / "images") if path.stem in names]
    if not folder.exists():
        folder.mkdir(parents=True)
        chosen = np.random.default_rng(0).permutation(len(files))[: args.pool]
        for row in chosen:
            (folder / files[row].name).symlink_to(files[row].resolve())
    return folder, manifest


class Records:
    """Runs that are finished, kept as lines of a file."""

    def __init__(self, path: Path, setting: str) -> None:
        self.path, self.setting = path, setting
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows: list[dict[str, Any]] = [row for row in map(json.loads, lines) if row["setting"] == setting]

    def find(self, **key: Any) -> dict[str, Any] | None:
        return next((row for row in self.rows if all(row.get(name) == value for name, value in key.items())), None)

    def add(self, **row: Any) -> dict[str, Any]:
        self.rows.append({**row, "setting": self.setting})
        with self.path.open("a") as stream:
            stream.write(json.dumps(self.rows[-1]) + "\n")
        return self.rows[-1]


def speeds(args: argparse.Namespace, out: Path, tools: Sequence[str], images: Path, records: Records) -> Iterator[dict[str, Any]]:
    """Steady state, start and memory of every tool with every method."""
    short, long = args.speed_epochs
    some = out / f"speed-{args.speed_images}"
    if not some.exists():
        subset(images, some, args.speed_images)
    count = len(files_of(some))
    for method, attempt, epochs, tool in itertools.product(args.methods, range(args.rounds), args.speed_epochs, tools):
        key = {"kind": "speed", "tool": tool, "method": method, "epochs": epochs, "round": attempt}
        if _has(tool, method) and records.find(**key) is None:
            records.add(**key, **_run(tool, Job(some, out / "run", epochs, attempt, method), args))
    for method, tool in itertools.product(args.methods, tools):
        runs = [row for row in records.rows if (row["kind"], row["tool"], row["method"]) == ("speed", tool, method)]
        if not runs:
            continue
        seconds = {epochs: float(np.median([row["seconds"] for row in runs if row["epochs"] == epochs])) for epochs in (short, long)}
        steady = max(seconds[long] - seconds[short], 1e-9) / ((long - short) * count)
        yield {
            "method": method,
            "tool": tool,
            "images_per_s": significant(1 / steady),
            "start_s": significant(seconds[short] - short * count * steady),
            f"seconds_for_{long}_passes": significant(seconds[long]),
            "peak_memory_mb": round(max(row["pss_mb"] for row in runs)),
            "peak_rss_mb": round(max(row["rss_mb"] for row in runs)),
        }


def against_peer(speed: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """By method: how many times the peer's images per second, and which part of its memory, ours makes with views of one size."""
    found = {}
    for method in dict.fromkeys(row["method"] for row in speed):
        ours, theirs = (next((row for row in speed if (row["method"], row["tool"]) == (method, tool)), None) for tool in SAME_VIEWS)
        if ours and theirs:
            rate = significant(ours["images_per_s"] / theirs["images_per_s"])
            found[method] = {"times_images_per_s": rate, "times_memory": significant(ours["peak_memory_mb"] / theirs["peak_memory_mb"])}
    return found


def curves(
    args: argparse.Namespace, out: Path, tools: Sequence[str], images: Path, manifest: Path, records: Records
) -> list[dict[str, Any]]:
    """AUC and seconds of every tool, method, number of passes and seed, the tools taking turns."""
    tools = [tool for tool in tools if tool in CURVES]
    for method, seed, epochs, tool in itertools.product(args.methods, range(args.seeds), sorted(args.epochs), tools):
        key = {"kind": "worth", "tool": tool, "method": method, "epochs": epochs, "seed": seed, "pool": args.pool}
        if records.find(**key) is None:
            done = _run(tool, Job(images, out / "run", epochs, seed, method), args)
            records.add(**key, **done, auc=worth(Path(done["weights"]), manifest, args, out))
    return [row for row in records.rows if row["kind"] == "worth" and row["pool"] == args.pool and row["tool"] in tools]


def _has(tool: str, method: str) -> bool:
    return tool != "lightly loop" or method == "simclr"


def _run(tool: str, job: Job, args: argparse.Namespace) -> dict[str, Any]:
    done = TOOLS[tool](job, args)
    print(f"{tool}, {job.method}, {job.epochs} passes, seed {job.seed}: {done.seconds:.1f} s, {done.pss_mb:.0f} MB", flush=True)
    rounded = {name: significant(getattr(done, name)) for name in ("seconds", "cpu_seconds", "rss_mb", "pss_mb")}
    return {**rounded, "weights": str(done.weights)}


def worth(weights: Path | None, manifest: Path, args: argparse.Namespace, out: Path) -> float:
    """Mean ROC AUC of linear probes on frozen features, over splits and budgets; of an untrained network without weights."""
    from isograft.train.start import open_start
    from recipe import probed

    if weights is None:
        start = open_start("scratch", args.backbone, ())
    else:
        start = open_start(str(weights), args.backbone if weights.is_file() else "auto", ())
    network = start.build(args.size)
    asked = argparse.Namespace(out=out, threads=args.threads, splits=args.splits, budgets=args.budgets)
    return float(np.mean([auc for _, _, auc in probed(network, start.preprocess(args.size), manifest, asked, 10**6)]))


def untrained(seed: int, manifest: Path, args: argparse.Namespace, out: Path) -> float:
    """What a network is worth that has learned nothing: the least that a pretraining must pass."""
    import torch

    torch.manual_seed(seed)
    return worth(None, manifest, args, out)


def seconds_to(curve: Sequence[tuple[float, float]], auc: float) -> float | None:
    """When a curve of (seconds, AUC) first reaches an AUC, on straight lines between its points; None where it never does."""
    points = sorted(curve)
    if points[0][1] >= auc:
        return points[0][0]
    for (before, low), (after, high) in itertools.pairwise(points):
        if high >= auc:
            return before + (after - before) * (auc - low) / (high - low)
    return None


def compared(rows: Sequence[dict[str, Any]], method: str) -> dict[str, Any] | None:
    """Times to the AUC that the peer ends with, by seed, and what they say."""
    found = []
    for seed in sorted({row["seed"] for row in rows}):
        mine = [row for row in rows if (row["method"], row["seed"]) == (method, seed)]
        ours, theirs = ([(row["seconds"], row["auc"]) for row in mine if row["tool"] == tool] for tool in CURVES)
        if not ours or not theirs:
            continue
        auc = max(theirs)[1]
        peer, we = seconds_to(theirs, auc), seconds_to(ours, auc)
        assert peer is not None
        ratio = None if we is None else significant(peer / we)
        first = we == min(ours)[0]
        row = {"seed": seed, "auc": significant(auc), "peer_seconds": peer, "our_seconds": we}
        found.append({**row, "times_less_time": ratio, "at_our_shortest_run": first})
    if not found:
        return None
    ratios = [one["times_less_time"] for one in found]
    median = None if None in ratios else significant(float(np.median(ratios)))
    return {"method": method, "times_less_time": median, "aim": AIM, "seeds": found}


def main() -> int:
    """Print and write the figures; 1 when the aim was measured and missed."""
    args = options()
    tools = ["isograft", "isograft, one size", "lightly-train", "lightly loop"]
    with described() as result, tempfile.TemporaryDirectory() as temporary:
        out = args.out or Path(temporary)
        out.mkdir(parents=True, exist_ok=True)
        result["setting"] = {name: getattr(args, name) for name in ("backbone", "size", "batch_size", "threads", "precision")}
        try:
            args.lightly_train = peers.find(PEER, args.peer_python, args.install)
            result["peer"] = peers.version(args.lightly_train, PEER)
        except peers.PeerMissingError as missing:
            tools.remove(PEER)
            result["skipped"] = [{"what": PEER, "why": str(missing)}]
        images, manifest = pool(args, out)
        records = Records(out / "runs.jsonl", json.dumps([result["setting"], args.speed_images, result.get("peer")]))
        if args.speed_images:
            result["speed"] = list(speeds(args, out, tools, images, records))
            result["against_lightly_train"] = against_peer(result["speed"])
        rows = curves(args, out, tools, images, manifest, records) if args.pool else []
        result["auc_untrained"] = [significant(untrained(seed, manifest, args, out)) for seed in range(args.seeds)] if args.pool else []
        columns = ("method", "tool", "epochs", "seed", "seconds", "auc", "pss_mb")
        result["auc_against_seconds"] = [{name: row[name] for name in columns} for row in rows]
        told = [found for method in args.methods if (found := compared(rows, method))]
        result["time_to_the_same_auc"] = {found["method"]: {"times_less_time": found["times_less_time"], "aim": AIM} for found in told}
        result["time_to_the_same_auc_by_seed"] = [{"method": found["method"], **one} for found in told for one in found["seeds"]]
        shutil.rmtree(out / "run", ignore_errors=True)
    finish(result, args)
    slow = result.get("against_lightly_train", {}).get("simclr", {}).get("times_images_per_s", SPEED_AIM) < SPEED_AIM
    return int(slow or any(found["times_less_time"] is None or found["times_less_time"] < AIM for found in told))


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except CommandError as error:
        raise SystemExit(str(error)) from None
