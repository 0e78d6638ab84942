"""How often the 95 % intervals of an evaluation hold the truth, in simulated tests with several images per patient.

Each world draws patients of three classes (1/2, 1/3, 1/6), images per patient, noise shared by a patient's images and noise of each image;
the truth is the figure of very many such patients. Counted are the intervals as they are, and those that take images for independent.

    python benchmarks/interval_coverage.py [--worlds 400] [--patients 30 60 200]
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

import numpy as np

from harness import arguments, described, finish, parser

FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "macro_roc_auc", "brier", "per_class.c.recall", "per_class.c.roc_auc")
CLASSES = ["a", "b", "c"]
KINDS = {"single images": (1, 1), "several images": (1, 8)}


def world(rng: np.random.Generator, patients: int, images: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities and patients of one test."""
    owner = np.repeat(np.arange(patients), rng.integers(images[0], images[1] + 1, patients))
    labels = np.arange(patients) % 6
    labels = np.select([labels < 3, labels < 5], [0, 1], 2)[owner]
    logits = rng.normal(size=(patients, 3))[owner] + 0.7 * rng.normal(size=(len(owner), 3))
    logits[np.arange(len(owner)), labels] += 1.5
    p = np.exp(logits)
    return labels, p / p.sum(1, keepdims=True), owner


def covered(kind: str, patients: int, worlds: int) -> dict[str, Any]:
    """Share of worlds whose interval holds the truth, and mean width, by figure."""
    from isograft.assess.intervals import intervals
    from isograft.assess.metrics import score

    labels, p, owner = world(np.random.default_rng(10**6), 120_000, KINDS[kind])
    truth = score(labels, p, CLASSES)
    true = {name: truth["per_class"]["c"][name.rpartition(".")[2]] if "." in name else truth[name] for name in FIGURES}
    hits = {way: {name: [] for name in FIGURES} for way in ("patients", "images")}
    widths: dict[str, list[float]] = {name: [] for name in FIGURES}
    for number in range(worlds):
        labels, p, owner = world(np.random.default_rng(number), patients, KINDS[kind])
        for way, groups in (("patients", owner), ("images", None)):
            found = intervals(labels, p, CLASSES, groups, resamples=1000)["figures"]
            for name in FIGURES:
                if name in found:
                    hits[way][name].append(found[name]["low"] <= true[name] <= found[name]["high"])
                    if way == "patients":
                        widths[name].append(found[name]["high"] - found[name]["low"])
    return {
        name: {
            "patients": float(np.mean(hits["patients"][name])) if hits["patients"][name] else None,
            "images": float(np.mean(hits["images"][name])) if hits["images"][name] else None,
            "given": len(hits["patients"][name]) / worlds,
            "width": float(np.mean(widths[name])) if widths[name] else None,
        }
        for name in FIGURES
    }


def calibration_error(worlds: int) -> dict[str, float]:
    """Shares of tests of 400 images whose interval holds a calibration error of 0.2, and zero where the model is perfect."""
    from isograft.assess.intervals import intervals

    held = {0.2: 0, 0.0: 0}
    for number in range(worlds):
        rng = np.random.default_rng(number)
        confidence, called = rng.uniform(0.5, 1, 400), rng.integers(0, 2, 400)
        p = np.where(called[:, None] == [[0, 1]], confidence[:, None], 1 - confidence[:, None])
        for error in held:
            labels = np.where(rng.random(400) < confidence - error, called, 1 - called)
            found = intervals(labels, p, CLASSES[:2], resamples=1000)["figures"]["ece"]
            held[error] += found["low"] <= error <= found["high"]
    return {f"calibration error of {error:g}": count / worlds for error, count in held.items()}


def main() -> int:
    """Print and write the figures."""
    asked = parser(__doc__)
    asked.add_argument("--worlds", type=int, default=400)
    asked.add_argument("--patients", type=int, nargs="+", default=[30, 60, 200])
    args = arguments(asked, {"worlds": 3, "patients": [30]})
    rows = []
    with described() as result:
        result["worlds"], result["calibration_error_held"] = args.worlds, calibration_error(args.worlds)
        for kind, patients in itertools.product(KINDS, args.patients):
            for name, one in covered(kind, patients, args.worlds).items():
                told = {
                    "held_over_patients": one["patients"],
                    "held_over_images": one["images"],
                    "width": one["width"],
                    "given": one["given"],
                }
                rows.append({"kind": kind, "patients": patients, "figure": name, **told})
        result["coverage"] = rows
        held = [row["held_over_patients"] for row in rows if row["kind"] == "several images" and row["held_over_patients"] is not None]
        result["mean_held_with_several_images"] = sum(held) / max(1, len(held))
    finish(result, args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
