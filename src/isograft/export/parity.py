"""Whether an export gives the answers of the model it was made of, image by image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from isograft import console
from isograft.assess.metrics import roc_auc
from isograft.errors import IsograftError
from isograft.export.trial import Floats, Image, Reference, Trial

TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2}
"""Largest difference of a probability, by arithmetic. int8 has none: its agreement and its loss of AUC are told."""

Run = Callable[[Sequence[Image]], tuple[Floats | None, npt.NDArray[np.floating[Any]]]]
"""Images of one size uint8 (H, W, 3) to probabilities float64 (N, K), None of a backbone, and embeddings (N, M, D)."""


def compare(run: Run, trial: Trial, expected: Reference, classes: Sequence[str], precision: str) -> dict[str, Any]:
    """Run an export on every image and compare.

    Args:
        run: The export, as another program would run it.
        trial: N images.
        expected: The model's own answers to them.
        classes: K class names; none of a backbone.
        precision: `fp32`, `fp16` or `int8`.

    Returns:
        JSON-ready: `images`, `compared_on`, `embedding_difference` (largest, relative to the largest value); of a classifier
        `largest_difference` and `mean_difference` of a probability, `agreement` (share of images with the same most probable class), `auc`
        (`before`, `after`: mean one-against-rest ROC AUC of the classes with images; None without labels); `tolerance`.

    Raises:
        IsograftError: It differs by more than the tolerance.
    """
    said = [run([image]) for image in trial.images]
    embeddings = np.concatenate([each for _, each in said])
    scale = float(np.abs(expected.embeddings).max()) or 1.0
    found: dict[str, Any] = {
        "images": len(trial),
        "compared_on": trial.name,
        "embedding_difference": float(np.abs(embeddings - expected.embeddings).max()) / scale,
        "tolerance": TOLERANCE.get(precision),
    }
    largest = found["embedding_difference"]
    if expected.probabilities is not None:
        p = np.concatenate([each for each, _ in said if each is not None])
        apart = np.abs(p - expected.probabilities)
        largest = found["largest_difference"] = float(apart.max())
        found["mean_difference"] = float(apart.mean())
        found["agreement"] = float((p.argmax(axis=1) == expected.probabilities.argmax(axis=1)).mean())
        found["auc"] = {"before": _auc(expected.probabilities, trial.labels, classes), "after": _auc(p, trial.labels, classes)}
    _check_batch(run, trial.images[0], found["tolerance"] or TOLERANCE["fp16"])
    if found["tolerance"] is not None and not largest <= found["tolerance"]:
        raise IsograftError(
            f"the export differs from predict by up to {largest:.2g}, over the tolerance of {found['tolerance']:g}, on {trial.name}; "
            "nothing was written: try another version of the packages, or another --to"
        )
    return found


def tell(found: dict[str, Any]) -> None:
    """Say how an export compares."""
    on = f"on {found['images']:,} images ({found['compared_on']})"
    if "largest_difference" not in found:
        console.say(f"largest difference of an embedding: {found['embedding_difference']:.2g} of its largest value, {on}")
        return
    tolerated = "" if found["tolerance"] is None else f"; tolerance {found['tolerance']:g}"
    console.say(f"largest difference of a probability: {found['largest_difference']:.2g}, {on}{tolerated}")
    if found["tolerance"] != TOLERANCE["fp32"]:
        before, after = found["auc"]["before"], found["auc"]["after"]
        area = "" if before is None else f"; ROC AUC {before:.4f} before, {after:.4f} after ({after - before:+.4f})"
        console.say(f"the same class for {found['agreement']:.2%} of them{area}")


def _check_batch(run: Run, image: Image, tolerance: float) -> None:
    """Images of one size asked about together must get the answers they get alone."""
    several = [image, np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(image[::-1])]
    together, alone = run(several), [run([one]) for one in several]
    for part in (0, 1):
        whole = together[part]
        if whole is None:
            continue
        apart = np.abs(whole - np.concatenate([np.asarray(one[part]) for one in alone])).max()
        if not apart <= tolerance * max(1.0, float(np.abs(whole).max())):
            raise IsograftError(
                f"the export answers an image differently, by {apart:.2g}, when others stand beside it; "
                "nothing was written: use another --to"
            )


def _auc(p: Floats, labels: Sequence[str | None], classes: Sequence[str]) -> float | None:
    rows = [row for row, label in enumerate(labels) if label in classes]
    truth = np.array([labels[row] for row in rows], dtype=object)
    areas = [roc_auc(truth == name, p[rows, k]) for k, name in enumerate(classes)]
    known = [area for area in areas if area is not None]
    return float(np.mean(known)) if known else None
