"""Does choosing which images to label beat choosing them at random, with 10, 25 and 50 labels per class?

Plays the labeling of three tasks: rounds from no label to so many that every class had 10, 25 and 50 if they were shared evenly; labels are
revealed for the chosen images only, so classes stay as uneven as they come. After every round a linear probe on frozen embeddings is fitted
as `finetune --strategy probe` does and scored by macro-F1 on a held-out test split by patient or lesion. Every strategy sees the same
splits; the difference from random choice is paired, with a 95 % t-interval over the splits. A strategy called `A, then B` chooses the first
round by A and the later ones by B. Embeddings and results are kept in --out: the same command continues.

    python benchmarks/suggest.py --out /tmp/suggest
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
TASKS = ("rosendahl", "foot", "nuclei")
BUDGETS = (10, 25, 50)
TEST_FRACTION = 0.4
RANDOM, USED = "random", "typical, then margin"
STRATEGIES = (
    *(RANDOM, "typical", "k-means centre", "ProbCover", "k-center"),
    *(f"random, then {name}" for name in ("margin", "entropy", "margin apart", "weighted k-means", "BADGE", "margin by class")),
    USED,
    "typical, then margin by class",
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the real images")
    parser.add_argument("--out", type=Path, required=True, help="working folder for embeddings and results")
    parser.add_argument("--init", default="imagenet", help="whose embeddings: imagenet, or a pretrained model folder")
    parser.add_argument("--image-size", type=int, default=64, help="side of the square the network sees")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES))
    parser.add_argument("--seeds", type=int, default=10, help="splits and starts")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def manifest_of(task: str, args: argparse.Namespace) -> Path:
    """Ingest a task once."""
    import isograft

    path = args.out / "manifests" / f"{task}.parquet"
    ham, foot, nuclei = args.data / "skin/ham10000", args.data / "foot", args.data / "histology/crc_nuclei"
    where = "dataset = 'rosendahl' AND dx IN ('nv','mel','bkl','bcc','akiec')"
    calls: dict[str, tuple[Path, dict[str, Any]]] = {
        "rosendahl": (ham / "images", {"labels": ham / "metadata.csv", "label_column": "dx", "group_column": "lesion_id", "where": where}),
        "foot": (foot, {"labels": foot / "patches.csv", "label_column": "label", "group_column": "source_image"}),
        "nuclei": (
            nuclei,
            {"labels": nuclei / "labels.csv", "label_column": "cell_type", "group_column": "patient", "where": "part = 'main'"},
        ),
    }
    if not path.exists():
        source, options = calls[task]
        isograft.ingest(source, out=path, allow_missing=True, threads=args.threads, **options)
    return path


def embedded(task: str, args: argparse.Namespace) -> Path:
    """File with the embeddings float32 (N, D), labels and groups of a task; made where not there yet."""
    from isograft.data.duplicates import bound_groups
    from isograft.data.manifest import Manifest
    from isograft.study.probes import frozen_features

    kept = args.out / f"{task}-{Path(args.init).name}-{args.image_size}.npz"
    if not kept.exists():
        manifest = Manifest.read(manifest_of(task, args)).usable()
        manifest = manifest.select(np.array([label is not None for label in manifest.labels()]))
        backbone = "tf_efficientnet_lite0" if args.init == "imagenet" else "auto"
        weights = {"init": args.init, "backbone": backbone, "backbone_arg": (), "image_size": args.image_size}
        features = frozen_features(manifest, **weights, seed=0, cache_dir=args.out / "cache", threads=args.threads)
        np.savez(kept, features=features, labels=manifest.labels().astype(str), groups=bound_groups(manifest).astype(str))
    return kept


class Probe:
    """What `finetune --strategy probe` fits, solved in the space that the training images span: the same answers, much sooner."""

    def __init__(self, x: np.ndarray, y: np.ndarray, groups: np.ndarray, seed: int) -> None:
        from isograft.train.probe import _choose_strength, _model

        self.mean, self.spread = x.mean(axis=0), x.std(axis=0) + 1e-3
        scaled = (x - self.mean) / self.spread
        _, s, axes = np.linalg.svd(scaled, full_matrices=False)
        self.basis = axes[s > 1e-4 * s[0]].T
        scaled = scaled @ self.basis
        self.classes, numbers = np.unique(y, return_inverse=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            strength, _ = _choose_strength(scaled, numbers, groups, seed)
            self.model = _model(strength).fit(scaled, numbers)

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """float64 (N, K) of the classes seen."""
        found: np.ndarray = self.model.predict_proba(((x - self.mean) / self.spread) @ self.basis)
        return found


def choose(how: str, pool: Any, p: np.ndarray | None, counts: np.ndarray, n: int, seed: int) -> list[int]:
    """The rows of the pool that a strategy labels next; p are the probe's probabilities, counts its labels per class."""
    import suggest_rejected as rejected
    from isograft.suggest.coverage import typical
    from isograft.suggest.uncertainty import margins, unsure

    ways: dict[str, Callable[[], Any]] = {
        "typical": lambda: typical(pool, n, seed),
        "k-means centre": lambda: rejected.central(pool, n, seed),
        "k-center": lambda: rejected.farthest(pool, n, seed),
        "ProbCover": lambda: rejected.dense(pool, n, seed, len(counts)),
        "margin": lambda: unsure(pool, margins(p), n),
        "entropy": lambda: unsure(pool, rejected.entropies(p), n),
        "margin apart": lambda: rejected.unsure_apart(pool, margins(p), n, seed),
        "weighted k-means": lambda: rejected.weighted_centres(pool, margins(p), n, seed),
        "BADGE": lambda: rejected.gradient_spread(pool, p, n, seed),
        "margin by class": lambda: rejected.unsure_by_class(pool, p, counts, n),
    }
    return list(range(n)) if how == RANDOM else [one.row for one in ways[how]()]


def play(job: dict[str, Any]) -> dict[str, Any]:
    """Label in rounds; macro-F1 after each."""
    from sklearn.metrics import f1_score

    from isograft.data.splits import hold_out
    from isograft.suggest.pool import Pool, compact

    data, seed = dict(np.load(job["embedded"])), job["seed"]
    x, labels, groups = data["features"], data["labels"], data["groups"]
    classes, y = np.unique(labels, return_inverse=True)
    g = np.unique(groups, return_inverse=True)[1]
    test = hold_out(labels.astype(object), groups.astype(object), TEST_FRACTION, seed, "test")
    rows = np.random.default_rng((seed, 1)).permutation(np.flatnonzero(~test))
    unit = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    short = np.zeros((len(x), compact(unit[rows], unit[:0])[0].shape[1]), np.float32)
    short[rows] = compact(unit[rows], unit[:0])[0]  # as the verb does, without the test images
    first, _, then = job["strategy"].partition(", then ")
    mine, probe, scores = np.zeros(0, np.int64), None, {}
    for budget in job["budgets"]:
        n = budget * len(classes) - len(mine)
        rest = rows[~np.isin(rows, mine)]
        pool = Pool(short[rest], short[mine], g[rest], np.bincount(g[mine], minlength=g.max() + 1))
        p = None if probe is None else probe.probabilities(x[rest])
        counts = np.bincount(y[mine], minlength=len(classes)) if probe is None else np.array([(y[mine] == k).sum() for k in probe.classes])
        mine = np.concatenate([mine, rest[choose(then or first if len(mine) else first, pool, p, counts, n, seed)]])
        probe = Probe(x[mine], y[mine], groups[mine], seed)
        said = probe.classes[probe.probabilities(x[test]).argmax(axis=1)]
        scores[str(budget)] = float(f1_score(y[test], said, average="macro", labels=np.arange(len(classes)), zero_division=0))
    return {**{key: job[key] for key in ("task", "init", "image_size", "strategy", "seed")}, "macro_f1": scores}


def summarise(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Per task and strategy: macro-F1 by budget, and the paired difference from random choice with half its 95 % t-interval."""
    from scipy import stats

    for task in dict.fromkeys(row["task"] for row in rows):
        scores = {(row["strategy"], row["seed"]): list(row["macro_f1"].values()) for row in rows if row["task"] == task}
        for strategy in dict.fromkeys(name for name, _ in scores):
            seeds = [seed for name, seed in scores if name == strategy and (RANDOM, seed) in scores]
            ours, theirs = (np.array([scores[name, seed] for seed in seeds]) for name in (strategy, RANDOM))
            difference = np.column_stack([ours - theirs, (ours - theirs).mean(axis=1)])
            half = stats.t.ppf(0.975, len(seeds) - 1) * difference.std(axis=0, ddof=1) / np.sqrt(len(seeds))
            yield {
                "task": task,
                "strategy": strategy,
                "splits": len(seeds),
                "macro_f1": [*ours.mean(axis=0), ours.mean()],
                "difference": list(difference.mean(axis=0)),
                "half": list(half),
            }


def main() -> None:
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    results = args.out / "results.jsonl"
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    common = {"init": Path(args.init).name, "image_size": args.image_size}
    rows = [row for row in rows if all(row[key] == value for key, value in common.items())]
    done = {(row["task"], row["strategy"], row["seed"]) for row in rows}
    names = list(dict.fromkeys([RANDOM, *args.strategies]))
    jobs = [
        {"task": task, "embedded": str(place), "strategy": strategy, "seed": seed, "budgets": BUDGETS, **common}
        for task in args.tasks
        for place in [embedded(task, args)]
        for strategy in names
        for seed in range(args.seeds)
        if (task, strategy, seed) not in done
    ]
    with multiprocessing.get_context("spawn").Pool(args.jobs) as pool, results.open("a") as stream:
        for row in pool.imap_unordered(play, jobs):
            rows.append(row)
            stream.write(json.dumps(row) + "\n")
            stream.flush()
    wanted = [row for row in rows if row["task"] in args.tasks and row["strategy"] in names and row["seed"] < args.seeds]
    table = list(summarise(sorted(wanted, key=lambda row: (args.tasks.index(row["task"]), names.index(row["strategy"])))))
    print(f"{'task':<11}{'strategy':<31}macro-F1 and difference from random at {', '.join(map(str, BUDGETS))} labels per class, mean")
    for row in table:
        figures = zip(row["macro_f1"], row["difference"], row["half"], strict=True)
        told = "   ".join(f"{f1:.3f} {gain:+.3f} [{gain - half:+.3f}, {gain + half:+.3f}]" for f1, gain, half in figures)
        print(f"{row['task']:<11}{row['strategy']:<31}{told}")
    print(json.dumps({**common, "table": table}))


if __name__ == "__main__":
    main()
