"""Which distance tells images of another domain, and how many of the own domain does it flag?

Fine-tunes classifiers on five diagnoses of one clinic (Rosendahl rows of HAM10000, by lesion) and embeds, with each, the images it was
trained on, images it was not trained on (validation split; for a linear probe all training images, fold by fold), its test images, and
images of other domains: photographs of feet, colon nuclei, and dermoscopy of another source. Prints for every distance the AUC between
test images and the others, and the share flagged at a threshold that shall flag 1 % of images of the own domain; then the same with one
photograph of a foot and one nucleus among the training images. Writes all as JSON. Finished models are kept: the same command continues.

    python benchmarks/out_of_domain.py --out /tmp/out-of-domain
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
OTHERS = ("foot", "nuclei", "uda1")
LITE = {"init": "imagenet", "backbone": "tf_efficientnet_lite0", "image_size": 96}
MODELS: dict[str, dict[str, Any]] = {
    "ImageNet, probe": {**LITE, "strategy": "probe"},
    "ImageNet, probe, 25 labels per class": {**LITE, "strategy": "probe", "labels_per_class": 25},
    "ImageNet, probe, then everything": {**LITE, "strategy": "probe-then-full", "epochs": 3},
    "scratch": {"init": "scratch", "backbone": "resnet18", "image_size": 64, "strategy": "full", "epochs": 5},
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the real images")
    parser.add_argument("--out", type=Path, required=True, help="working folder; figures.json is written here")
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="which of the models")
    parser.add_argument("--most", type=int, default=1000, help="images of every other domain at most")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def manifests(args: argparse.Namespace) -> dict[str, Path]:
    """Ingest the task and the other domains."""
    import isograft

    ham, foot, nuclei = args.data / "skin/ham10000", args.data / "foot", args.data / "histology/crc_nuclei"
    where = "dataset = 'rosendahl' AND dx IN ('nv','mel','bkl','bcc','akiec')"
    calls: dict[str, tuple[Path, dict[str, Any]]] = {
        "rosendahl": (
            ham / "images",
            {"labels": ham / "metadata.csv", "label_column": "dx", "group_column": "lesion_id", "where": where},
        ),
        "uda1": (args.data / "skin/uda1", {}),
        "foot": (foot, {"labels": foot / "patches.csv", "label_column": "label", "group_column": "source_image"}),
        "nuclei": (
            nuclei,
            {"labels": nuclei / "labels.csv", "label_column": "cell_type", "group_column": "patient", "where": "part = 'main'"},
        ),
    }
    paths = {name: args.out / "manifests" / f"{name}.parquet" for name in calls}
    for name, (source, options) in calls.items():
        if not paths[name].exists():
            isograft.ingest(source, out=paths[name], allow_missing=True, threads=args.threads, **options)
    return paths


def embedded(name: str, args: argparse.Namespace, paths: dict[str, Path]) -> dict[str, Any]:
    """Embeddings float32 (N, D) of a model's own images by role, and of the other domains; made where not there yet."""
    import isograft
    from isograft.data.cache import ImageCache
    from isograft.data.duplicates import bound_groups
    from isograft.data.manifest import Manifest
    from isograft.data.splits import keyed_rank, stratified_folds
    from isograft.inference import answers

    folder = args.out / "models" / name.replace(",", "").replace(" ", "-")
    kept = folder.with_suffix(".npz")
    if kept.exists():
        return dict(np.load(kept))
    common = {"cache_dir": args.out / "cache", "threads": args.threads}
    if not (folder / "model.json").exists():
        isograft.finetune(paths["rosendahl"], out=folder, resume=folder.exists(), **MODELS[name], **common)
    model = isograft.Model.load(folder)
    network, preprocess = model.network(), model.preprocess

    def embed(manifest: Manifest) -> np.ndarray:
        images = ImageCache.build(manifest, preprocess, args.out / "cache", args.threads)
        fitted = (preprocess.fit(images[row]) for row in range(len(manifest)))
        return np.stack([answer.embeddings[0] for answer in answers(network, preprocess, fitted)])

    own = Manifest.read(folder / "split.parquet")
    split, everything = own.frame["split"].to_numpy(), embed(own)
    labels, groups = own.labels(), bound_groups(own)
    train = split == "train"
    parts = {"train": everything[train], "test": everything[split == "test"], "train_labels": labels[train].astype(str)}
    parts["fold"] = stratified_folds(labels[train], groups[train], 5, 0)
    parts["validation"] = everything[np.isin(split, ["val", "validation"])]
    for other in OTHERS:
        manifest = Manifest.read(paths[other]).usable()
        rank = keyed_rank([str(key) for key in manifest.frame["id"]], 0, "out of domain")
        parts[other] = embed(manifest.take(np.sort(np.argsort(rank)[: args.most])))
    np.savez(kept, **parts)
    return parts


def nearest(k: int) -> Callable[..., Callable[..., np.ndarray]]:
    """Cosine distance to the k-th nearest training image: with k = 5, what `isograft.assess.domain` does."""
    from isograft.assess.domain import distances

    return lambda train, labels: lambda x: distances(train, x, k)


def raw_nearest(train: np.ndarray, labels: np.ndarray) -> Callable[..., np.ndarray]:
    """Distance to the fifth nearest training image, embeddings as they are."""
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=5).fit(train)
    return lambda x: near.kneighbors(x)[0][:, -1]


def mahalanobis(train: np.ndarray, labels: np.ndarray, relative: bool = False) -> Callable[..., np.ndarray]:
    """Squared Mahalanobis distance to the nearest class mean, shrunk shared covariance; relative: less that to the mean of all images."""
    from sklearn.covariance import LedoitWolf

    train = train.astype(np.float64)
    classes, number = np.unique(labels, return_inverse=True)
    means = np.stack([train[number == k].mean(axis=0) for k in range(len(classes))])
    within = np.linalg.inv(LedoitWolf(assume_centered=True).fit(train - means[number]).covariance_)
    middle = train.mean(axis=0)
    everything = np.linalg.inv(LedoitWolf(assume_centered=True).fit(train - middle).covariance_)

    def squared(x: np.ndarray, mean: np.ndarray, precision: np.ndarray) -> np.ndarray:
        return np.einsum("nd,nd->n", (x - mean) @ precision, x - mean)

    def distance(x: np.ndarray) -> np.ndarray:
        own = np.min([squared(x, mean, within) for mean in means], axis=0)
        return own - squared(x, middle, everything) if relative else own

    return distance


DISTANCES: dict[str, Callable[..., Callable[..., np.ndarray]]] = {
    "nearest, cosine": nearest(1),
    "3rd nearest, cosine": nearest(3),
    "5th nearest, cosine (used)": nearest(5),
    "10th nearest, cosine": nearest(10),
    "5th nearest, Euclidean": raw_nearest,
    "Mahalanobis": mahalanobis,
    "relative Mahalanobis": lambda train, labels: mahalanobis(train, labels, relative=True),
}


def rows(parts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Figures of every distance, with the training images as they are and with two foreign ones among them."""
    train, labels, fold = parts["train"], parts["train_labels"], parts["fold"]
    for name, make in DISTANCES.items():
        if len(parts["validation"]):
            held = make(train, labels)(parts["validation"])
        else:
            held = np.concatenate([make(train[fold != k], labels[fold != k])(train[fold == k]) for k in range(5)])
        threshold = np.sort(held)[min(len(held), int(np.ceil(0.99 * (len(held) + 1)))) - 1]
        for spoilt in (False, True):
            known, named = train, labels
            if spoilt:
                known, named = np.concatenate([train, parts["foot"][:1], parts["nuclei"][:1]]), np.concatenate([labels, labels[:2]])
            distance = make(known, named)
            own = distance(parts["test"])
            row: dict[str, Any] = {"distance": name, "spoilt": spoilt, "held_out": len(held), "test": float((own > threshold).mean())}
            for other in OTHERS:
                far = distance(parts[other][1:])
                truth = np.repeat([0, 1], [len(own), len(far)])
                row[other] = {"auc": float(roc_auc_score(truth, np.concatenate([own, far]))), "flagged": float((far > threshold).mean())}
            yield row


def show(row: dict[str, Any]) -> None:
    figures = "  ".join(f"{other} {row[other]['auc']:.3f} / {row[other]['flagged']:6.1%}" for other in OTHERS)
    print(f"{row['model']:<40}{row['distance']:<30}{'spoilt' if row['spoilt'] else '':<8}test {row['test']:6.1%}  {figures}", flush=True)


def main() -> None:
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    paths = manifests(args)
    print("AUC against the test images / share flagged, threshold for 1 % of the own domain")
    figures = []
    for name in args.models:
        for row in rows(embedded(name, args, paths)):
            figures.append({"model": name, **row})
            show(figures[-1])
    (args.out / "figures.json").write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
