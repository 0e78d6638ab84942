"""What folds and test-time augmentation bring on real dermoscopy, at the same number of labels.

Fine-tunes on the images of one clinic (HAM10000, source rosendahl), with and without `--folds 5`, and answers the held-out test images as
they are and with `--tta`. Prints the mean over seeds and the paired difference to the single network with its 95 % t-interval over seeds.

    python benchmarks/ensembles.py --data ../shared/data --out FOLDER [--seeds 5] [--labels 25]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from scipy import stats

FIGURES = ("macro_f1", "macro_roc_auc", "log_loss")
WAYS = ("single", "single, tta", "folds", "folds, tta")


def answered(folder: Path, tta: bool) -> tuple[np.ndarray, np.ndarray]:
    """True classes and uncalibrated probabilities of the model's held-out test images."""
    import polars as pl

    from isograft import Model
    from isograft.data.manifest import Manifest
    from isograft.inference import classify, read_ahead

    model = Model.load(folder)
    test = Manifest.read(folder / "split.parquet").select(pl.col("split") == "test")
    pictures = read_ahead(test.addresses(), model.preprocess, 2)
    said = classify(model.network(), model.preprocess, pictures, symmetries=model.symmetries(tta))
    return test.class_numbers(model.classes), np.stack([answer.probabilities() for _, answer in said])


def measured(data: Path, out: Path, seed: int, labels: int) -> dict[str, list[float]]:
    """The figures of every way at one seed."""
    import isograft
    from isograft.assess.metrics import score

    found = {}
    for name, folds in (("single", None), ("folds", 5)):
        folder = out / f"{name}-{labels}-{seed}"
        if not (folder / "model.json").exists():
            isograft.finetune(
                data, out=folder, init="imagenet", image_size=64, labels_per_class=labels, folds=folds, seed=seed, cache_dir=out / "cache",
                resume=(folder / "run.json").exists(),
            )  # fmt: skip
        for tta in (False, True):
            truth, p = answered(folder, tta)
            figures = score(truth, p, [str(k) for k in range(p.shape[1])])
            loss = float(-np.log(np.maximum(p[np.arange(len(truth)), truth], 1e-12)).mean())
            found[name + ", tta" * tta] = [figures["macro_f1"], figures["macro_roc_auc"], loss]
    return found


def main() -> int:
    """Print a table and its JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--labels", type=int, default=25)
    args = parser.parse_args()
    import isograft

    ham, manifest = args.data / "skin" / "ham10000", args.out / "rosendahl.parquet"
    if not manifest.exists():
        where = "dataset == 'rosendahl' and dx != 'vasc' and dx != 'df'"
        isograft.ingest(
            ham,
            out=manifest,
            labels=ham / "metadata.csv",
            label_column="dx",
            group_column="lesion_id",
            source_column="dataset",
            where=where,
        )
    runs = [measured(manifest, args.out, seed, args.labels) for seed in range(args.seeds)]
    values = np.array([[run[way] for way in WAYS] for run in runs])  # (seeds, ways, figures)
    print(f"{args.labels} labels per class, {args.seeds} seeds; difference to a single network with 95 % interval over seeds")
    table = {}
    for place, way in enumerate(WAYS):
        cells = []
        for column, figure in enumerate(FIGURES):
            difference = values[:, place, column] - values[:, 0, column]
            half = stats.t.ppf(0.975, args.seeds - 1) * difference.std(ddof=1) / np.sqrt(args.seeds) if args.seeds > 1 else float("nan")
            cells.append(f"{figure} {values[:, place, column].mean():.3f} ({difference.mean():+.3f} ± {half:.3f})")
            table[f"{way}: {figure}"] = [values[:, place, column].mean(), difference.mean(), half]
        print(f"{way:12s} " + "  ".join(cells))
    print(json.dumps(table, indent=2, default=float))
    return 0


if __name__ == "__main__":
    sys.exit(main())
