"""Which defaults are best? Variants of pretraining and fine-tuning, compared on labels that no benchmark is tested on.

Every variant is a plan file, so it can be repeated with `isograft pretrain --plan`. Pretraining variants are read by linear probes on the
pool's own diagnoses (five classes, split by lesion) and, as a guard against forgetting, on another domain (colon nuclei, split by patient).
Fine-tuning variants are scored on a quarter of the pool's lesions. Finished variants are kept: the same command continues.

    python benchmarks/recipe.py --out /tmp/recipe
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from label_efficiency import DATA, manifests

DIAGNOSES = "dataset != 'rosendahl' AND dx IN ('nv','mel','bkl','bcc','akiec')"
LITE = {"init": "imagenet", "backbone": "tf_efficientnet_lite0"}

# name: options of pretrain, edits of its plan
PRETRAINING: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "continued": (LITE, {}),
    "continued, trained batch statistics": (LITE, {"frozen_bn": False}),
    "continued, lr 1e-4": (LITE, {"lr": 1e-4}),
    "continued, lr 1e-3": (LITE, {"lr": 1e-3}),
    "continued, one rate for all layers": (LITE, {"layer_decay": 1.0}),
    "continued, 40 px first": (LITE, {"resolution": [[40, 0.8], [64, 0.2]]}),
    "from scratch": ({}, {}),
    "from scratch, 64 px throughout": ({}, {"resolution": [[64, 1.0]]}),
}

# name: pretraining variant to start from (or an --init), edits of the plan
FINETUNING: dict[str, tuple[str, dict[str, Any]]] = {
    f"{start}: {how}": (start, edits)
    for start in ("from scratch", "continued", "imagenet")
    for how, edits in {
        "probe": {"strategy": "probe"},
        "probe, then everything": {"strategy": "probe-then-full", "frozen_bn": False},
        "probe, then everything, frozen batch statistics": {"strategy": "probe-then-full", "frozen_bn": True},
        "the same, 20 passes": {"strategy": "probe-then-full", "frozen_bn": True, "epochs": 20},
    }.items()
} | {"scratch: everything": ("scratch", {"strategy": "full"})}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the real images")
    parser.add_argument("--out", type=Path, required=True, help="working folder")
    parser.add_argument("--steps", type=int, default=300, help="steps of every pretraining variant")
    parser.add_argument("--pretraining", nargs="*", default=list(PRETRAINING), help="variants to run")
    parser.add_argument("--finetuning", nargs="*", default=list(FINETUNING), help="variants to run")
    parser.add_argument("--budgets", type=int, nargs="+", default=[10, 20], help="labels per class")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--finetuning-splits", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def tuning_manifests(args: argparse.Namespace) -> dict[str, Path]:
    """Ingest the pool, the pool with its diagnoses, and the other domain."""
    import isograft

    paths = {"pool": manifests(args.data, args.out)["pool"]} | {
        name: args.out / "manifests" / f"{name}.parquet" for name in ("diagnoses", "nuclei")
    }
    ham, nuclei = args.data / "skin/ham10000", args.data / "histology/crc_nuclei"
    if not paths["diagnoses"].exists():
        columns = {"label_column": "dx", "group_column": "lesion_id"}
        isograft.ingest(ham / "images", out=paths["diagnoses"], labels=ham / "metadata.csv", allow_missing=True, where=DIAGNOSES, **columns)
    if not paths["nuclei"].exists():
        columns = {"label_column": "cell_type", "group_column": "patient"}
        isograft.ingest(nuclei, out=paths["nuclei"], labels=nuclei / "labels.csv", allow_missing=True, where="part = 'main'", **columns)
    return paths


def pretrained(name: str, args: argparse.Namespace, pool: Path) -> Path:
    """Pretrain a variant, or find it."""
    import isograft

    folder = args.out / "models" / f"{name.replace(' ', '-').replace(',', '')}-{args.steps}"
    if not (folder / "model.json").exists():
        options, edits = PRETRAINING[name]
        plan = args.out / f"{folder.name}.json"
        plan.write_text(json.dumps({"total_steps": args.steps, **edits}))
        shutil.rmtree(folder, ignore_errors=True)
        isograft.pretrain(pool, out=folder, plan=plan, image_size=64, cache_dir=args.out / "cache", threads=args.threads, **options)
    return folder


def probed(network: Any, preprocess: Any, manifest_path: Path, args: argparse.Namespace, most: int) -> Iterator[tuple[int, float, float]]:
    """Linear probes on frozen features: budget, macro-F1 and ROC AUC of every split."""
    import torch

    from isograft.assess.metrics import score
    from isograft.data.cache import ImageCache
    from isograft.data.manifest import Manifest
    from isograft.data.splits import hold_out, keyed_rank, label_subset
    from isograft.train.monitoring import embed
    from isograft.train.probe import fit_probe

    manifest = Manifest.read(manifest_path).usable()
    manifest = manifest.select(np.array([label is not None for label in manifest.labels()]))
    manifest = manifest.take(np.sort(np.argsort(keyed_rank([str(key) for key in manifest.frame["id"]], 0, "recipe"))[:most]))
    images = ImageCache.build(manifest, preprocess, args.out / "cache", args.threads)
    features = embed(network, images, np.arange(len(manifest)), preprocess, torch.device("cpu")).numpy()
    labels, groups, ids = manifest.labels(), manifest.groups(), [str(key) for key in manifest.frame["id"]]
    classes, numbers = manifest.classes(), manifest.class_numbers()
    for seed in range(args.splits):
        test = hold_out(labels, groups, 0.5, seed, "test")
        pool = np.flatnonzero(~test)
        for budget in args.budgets:
            train = pool[label_subset(labels[pool], groups[pool], [ids[row] for row in pool], budget, seed)]
            logits = torch.from_numpy(fit_probe(features[train], numbers[train], groups[train], seed).logits(features[test]))
            figures = score(numbers[test], logits.softmax(1).double().numpy(), classes)
            yield budget, figures["macro_f1"], figures["macro_roc_auc"]


def pretraining_row(name: str, args: argparse.Namespace, paths: dict[str, Path]) -> dict[str, Any]:
    """Probe a variant, or the starting weights themselves, in its own domain and in another."""
    import isograft
    from isograft.train.start import open_start

    if name in PRETRAINING:
        model = isograft.Model.load(pretrained(name, args, paths["pool"]))
        network, preprocess = model.network(), model.preprocess
    else:
        start = open_start(name, "auto", ())
        network, preprocess = start.build(64), start.preprocess(64)
    row: dict[str, Any] = {"kind": "pretraining", "name": name, "steps": args.steps}
    for domain, most in (("diagnoses", 8000), ("nuclei", 3000)):
        found = list(probed(network, preprocess, paths[domain], args, most))
        for budget in args.budgets:
            scores = np.array([scores for at, *scores in found if at == budget])
            row[f"{domain}, {budget} labels"] = [round(float(value), 4) for value in scores.mean(axis=0)]
    return row


def finetuning_row(name: str, args: argparse.Namespace, paths: dict[str, Path]) -> dict[str, Any]:
    """Fine-tune and evaluate a variant on splits of the diagnoses; they were in the pool, so leakage is allowed and meant."""
    import isograft

    start, edits = FINETUNING[name]
    init = str(pretrained(start, args, paths["pool"])) if start in PRETRAINING else start
    row: dict[str, Any] = {"kind": "finetuning", "name": name, "steps": args.steps}
    plan = args.out / "finetuning.json"
    plan.write_text(json.dumps(edits))
    for budget in args.budgets:
        scores = []
        for seed in range(args.finetuning_splits):
            folder = args.out / "run"
            shutil.rmtree(folder, ignore_errors=True)
            split = {"labels_per_class": budget, "test_fraction": 0.25, "seed": seed}
            common = {"image_size": 64, "plan": plan, "cache_dir": args.out / "cache", "threads": args.threads}
            isograft.finetune(paths["diagnoses"], out=folder / "model", init=init, **split, **common)
            figures = isograft.evaluate(folder / "model", out=folder / "evaluation", allow_leakage=True, threads=args.threads)
            scores.append([figures["macro_f1"], figures["macro_roc_auc"]])
        row[f"diagnoses, {budget} labels"] = [round(float(value), 4) for value in np.mean(scores, axis=0)]
    return row


def show(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        figures = "  ".join(f"{name}: {value[0]:.3f} / {value[1]:.3f}" for name, value in row.items() if isinstance(value, list))
        print(f"{row['kind']:<12}{row['name']:<60}{figures}")


def main() -> None:
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    paths = tuning_manifests(args)
    results = args.out / "results.jsonl"
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    wanted_columns = {f"diagnoses, {budget} labels" for budget in args.budgets}
    rows = [row for row in rows if row["steps"] == args.steps and wanted_columns <= row.keys()]
    done = {(row["kind"], row["name"]) for row in rows}
    wanted = [("pretraining", name) for name in (["imagenet"] if args.pretraining else []) + args.pretraining]
    for kind, name in [*wanted, *(("finetuning", name) for name in args.finetuning)]:
        if (kind, name) in done:
            continue
        row = (pretraining_row if kind == "pretraining" else finetuning_row)(name, args, paths)
        rows.append(row)
        show([row])
        with results.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
    show(rows)


if __name__ == "__main__":
    main()
