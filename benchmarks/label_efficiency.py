"""Does pretraining on the pool help, and by how much, at 5 to 50 labels per class?

Pretrains a ResNet-18 from scratch and EfficientNet-Lite0 from its ImageNet weights on the unlabeled Vienna rows of HAM10000, then
fine-tunes every start on three tasks it has not seen, at every label budget and on several splits, with frozen features (linear
probe) and as a whole. All starts see the same training and test rows. Prints mean macro-F1 and ROC AUC per start and
the paired differences with 95 % intervals over the splits, and writes them as JSON. Finished runs are kept: the same command continues.

    python benchmarks/label_efficiency.py --out /tmp/label-efficiency
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
TASKS = ("uda1", "rosendahl", "foot")
STARTS = ("scratch", "imagenet", "in-domain", "imagenet-in-domain")
MODES = ("probe", "auto")
METRICS = ("macro_f1", "roc_auc")
BACKBONES = {"scratch": "resnet18", "imagenet": "tf_efficientnet_lite0"}
PAIRS = (("in-domain", "scratch"), ("in-domain", "imagenet"), ("imagenet-in-domain", "imagenet"))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the real images")
    parser.add_argument("--out", type=Path, required=True, help="working folder; results.jsonl and summary.json are written here")
    parser.add_argument("--minutes", type=float, default=15, help="pretraining time of either network")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budgets", type=int, nargs="+", default=[5, 10, 25, 50])
    parser.add_argument("--modes", nargs="+", default=list(MODES))
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    return parser.parse_args()


def manifests(data: Path, out: Path) -> dict[str, Path]:
    """Ingest the pool (labels dropped) and the three tasks."""
    import isograft

    paths = {name: out / "manifests" / f"{name}.parquet" for name in ("pool", *TASKS)}
    ham = {"labels": data / "skin/ham10000/metadata.csv", "label_column": "dx", "group_column": "lesion_id", "source_column": "dataset"}
    calls: dict[str, tuple[Path, dict[str, Any]]] = {
        "pool": (data / "skin/ham10000/images", {**ham, "where": "dataset != 'rosendahl'", "drop_labels": True}),
        "rosendahl": (data / "skin/ham10000/images", {**ham, "where": "dataset = 'rosendahl' AND dx IN ('nv','mel','bkl','bcc','akiec')"}),
        "uda1": (data / "skin/uda1", {}),
        "foot": (data / "foot", {"labels": data / "foot/patches.csv", "label_column": "label", "group_column": "source_image"}),
    }
    for name, (source, options) in calls.items():
        if not paths[name].exists():
            isograft.ingest(source, out=paths[name], allow_missing=True, **options)
    return paths


def pretrained(pool: Path, out: Path, minutes: float) -> dict[str, str]:
    """Pretrain both networks, or reuse what is there; return the `--init` of every start."""
    import isograft

    starts = {"scratch": "scratch", "imagenet": "imagenet"}
    for name, init, backbone in (("in-domain", "scratch", "resnet18"), ("imagenet-in-domain", "imagenet", "tf_efficientnet_lite0")):
        folder = out / "models" / name
        if not (folder / "model.json").exists():
            isograft.pretrain(
                pool,
                out=folder,
                init=init,
                backbone=backbone,
                image_size=64,
                max_time=minutes * 60,
                cache_dir=out / "cache",
                resume=(folder / "run.json").exists(),
            )
        starts[name] = str(folder)
    return starts


def probe_runs(job: dict[str, Any]) -> list[dict[str, Any]]:
    """All linear probes of one start on one task: one pass of features, since the weights are frozen (from scratch one per seed)."""
    import torch

    import isograft
    from isograft.assess.metrics import score
    from isograft.data.manifest import Manifest
    from isograft.lineage import check_unseen
    from isograft.settings import FinetuneSettings
    from isograft.study.probes import frozen_features, probe

    torch.set_num_threads(1)
    manifest = Manifest.read(job["manifest"]).usable()
    manifest = manifest.select(np.array([label is not None for label in manifest.labels()]))
    if Path(job["init"]).is_dir():
        check_unseen(isograft.Model.load(job["init"]), manifest)
    rows, features, made_with = [], None, None
    for seed, budget in sorted(job["runs"]):
        if features is None or (job["start"] == "scratch" and seed != made_with):
            weights = {"init": job["init"], "backbone": BACKBONES.get(job["start"], "auto"), "backbone_arg": (), "image_size": 64}
            features = frozen_features(manifest, **weights, seed=seed, cache_dir=Path(job["cache"]), threads=1)
            made_with = seed
        asked = {"strategy": "probe", "labels_per_class": budget, "test_fraction": 0.4, "seed": seed}
        settings = FinetuneSettings(data=job["manifest"], out=Path("unused"), init=job["init"], **asked)
        tested = probe(features, manifest, settings)
        figures = score(tested.truth, tested.probabilities, manifest.classes())
        rows.append({**_named(job), "budget": budget, "seed": seed, "macro_f1": figures["macro_f1"], "roc_auc": figures["macro_roc_auc"]})
    return rows


def finetuning_run(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Fine-tune and evaluate once."""
    import torch

    import isograft

    torch.set_num_threads(1)
    folder = Path(job["folder"])
    shutil.rmtree(folder, ignore_errors=True)
    ((seed, budget),) = job["runs"]
    isograft.finetune(
        job["manifest"],
        out=folder / "model",
        init=job["init"],
        backbone=BACKBONES.get(job["start"], "auto"),
        image_size=64,
        labels_per_class=budget,
        test_fraction=0.4,
        seed=seed,
        cache_dir=Path(job["cache"]),
        threads=1,
    )
    figures = isograft.evaluate(folder / "model", out=folder / "evaluation", threads=1)
    shutil.rmtree(folder, ignore_errors=True)
    return [{**_named(job), "budget": budget, "seed": seed, "macro_f1": figures["macro_f1"], "roc_auc": figures["macro_roc_auc"]}]


def _named(job: dict[str, Any]) -> dict[str, Any]:
    return {key: job[key] for key in ("task", "start", "mode")}


def do(job: dict[str, Any]) -> list[dict[str, Any]]:
    return probe_runs(job) if job["mode"] == "probe" else finetuning_run(job)


def jobs(args: argparse.Namespace, paths: dict[str, Path], starts: dict[str, str], done: set[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """All runs not done yet: probes first, then fine-tuning one seed after the other, so that an early stop leaves whole splits."""
    runs = list(itertools.product(range(args.seeds), args.budgets))
    for mode in args.modes:
        for several in [runs] if mode == "probe" else [[run] for run in runs]:
            for task, start in itertools.product(args.tasks, STARTS):
                left = [(seed, budget) for seed, budget in several if (task, start, mode, budget, seed) not in done]
                if left:
                    yield {
                        "task": task,
                        "start": start,
                        "mode": mode,
                        "runs": left,
                        "init": starts[start],
                        "manifest": str(paths[task]),
                        "folder": str(args.out / "runs" / f"{task}-{start}-{mode}-{left[0][1]}-{left[0][0]}"),
                        "cache": str(args.out / "cache"),
                    }


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95 % t-interval over independent splits."""
    mean = float(values.mean())
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over budgets per split, then paired differences over splits."""
    table = []
    for task, mode, metric in itertools.product(TASKS, MODES, METRICS):
        scores = {(row["start"], row["seed"], row["budget"]): row[metric] for row in rows if row["task"] == task and row["mode"] == mode}
        seeds = sorted({seed for _, seed, _ in scores})
        budgets = sorted({budget for _, _, budget in scores})
        whole = [seed for seed in seeds if all((start, seed, budget) in scores for start in STARTS for budget in budgets)]
        if not whole:
            continue
        per_seed = {start: np.array([np.mean([scores[start, seed, budget] for budget in budgets]) for seed in whole]) for start in STARTS}
        means = {start: round(float(values.mean()), 4) for start, values in per_seed.items()}
        by_budget = {
            start: {budget: round(float(np.mean([scores[start, seed, budget] for seed in whole])), 4) for budget in budgets}
            for start in STARTS
        }
        differences = {f"{a} - {b}": [round(v, 4) for v in interval(per_seed[a] - per_seed[b])] for a, b in PAIRS}
        table.append(
            {
                "task": task,
                "mode": mode,
                "metric": metric,
                "splits": len(whole),
                "mean": means,
                "by_budget": by_budget,
                "difference": differences,
            }
        )
    return table


def show(table: list[dict[str, Any]]) -> None:
    print(f"{'task':<10}{'mode':<7}{'metric':<10}" + "".join(f"{start:>20}" for start in STARTS) + "   paired differences [95 % interval]")
    for row in table:
        differences = "; ".join(f"{name} {mean:+.3f} [{low:+.3f}, {high:+.3f}]" for name, (mean, low, high) in row["difference"].items())
        means = "".join(f"{row['mean'][start]:>20.3f}" for start in STARTS)
        print(f"{row['task']:<10}{row['mode']:<7}{row['metric']:<10}{means}   {differences}")


def main() -> None:
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    results = args.out / "results.jsonl"
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    done = {(row["task"], row["start"], row["mode"], row["budget"], row["seed"]) for row in rows}
    paths = manifests(args.data, args.out)
    starts = pretrained(paths["pool"], args.out, args.minutes)
    context = multiprocessing.get_context("spawn")
    with context.Pool(args.jobs, maxtasksperchild=20) as pool, results.open("a") as stream:
        for found in pool.imap_unordered(do, jobs(args, paths, starts, done)):
            rows.extend(found)
            stream.writelines(json.dumps(row) + "\n" for row in found)
            stream.flush()
    table = summarise(rows)
    machine = {"processor": platform.processor() or platform.machine(), "minutes": args.minutes, "runs": len(rows)}
    (args.out / "summary.json").write_text(json.dumps({"machine": machine, "table": table}, indent=2))
    show(table)


if __name__ == "__main__":
    main()
