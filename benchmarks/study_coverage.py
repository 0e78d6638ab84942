"""Are the intervals and verdicts of a study right? Measured on simulated studies whose truth is known.

Every simulated study draws its own labeled set from an endless population of groups with several images each, splits it again
and again as `isograft study` does (whole groups, in proportion to the classes, label budgets nested, different groups first),
trains a small classifier on every arm's own noisy features of the images, and tests it. So its repeats share test groups,
training groups and images as those of a real study do. Arms with equal noise have an expected difference of zero; that of
others is the mean over many independent studies of one repeat.

    python benchmarks/study_coverage.py --studies 2000 --jobs 2 --out coverage.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from isograft.study.comparison import compare, difference
from isograft.study.influence import FIGURES, influence
from isograft.study.runs import Runs
from isograft.study.statistics import spread
from isograft.study.verdict import answer

REPEATS = (3, 5, 10)
TEST_FRACTION = 0.4
CLAIMS = ("gain", "worse")


@dataclass(frozen=True)
class World:
    """A population, and how it is studied.

    Attributes:
        name: What is special about it.
        groups: Labeled groups of a study.
        images: A group has 1 to this many images.
        noise: Deviation of every arm's own feature noise (between the classes: `apart`); the first arm is the baseline.
        budgets: Label budgets per class, 0 for all.
        seed_noise: What the seed of a training adds to the class means that the classifier learns.
        classes: Classes.
        figure: The figure compared.
        learner: `centroid` (nearest class mean) or `ridge` (regularised least squares).
        bound: Part of the noise variance that the images of a group share.
        apart: Distance of the class means from the origin.
        dimensions: Features.
        rare: With two classes, the share of the groups that are of the second; 0 for equal shares.
    """

    name: str
    groups: int = 60
    images: int = 3
    noise: tuple[float, ...] = (1.0, 1.0)
    budgets: tuple[int, ...] = (5, 0)
    seed_noise: float = 0.3
    classes: int = 2
    figure: str = "macro_f1"
    learner: str = "centroid"
    bound: float = 0.5
    apart: float = 1.6
    dimensions: int = 8
    rare: float = 0.0


WORLDS = (
    World("very few groups", groups=20),
    World("few groups", groups=30),
    World("some groups", groups=60),
    World("many groups", groups=200, budgets=(5, 25, 0)),
    World("one image a group", groups=60, images=1),
    World("many images a group", groups=40, images=8, bound=0.8),
    World("no noise of the seed", groups=60, seed_noise=0.0),
    World("much noise of the seed", groups=60, seed_noise=1.0),
    World("few labels only", groups=100, budgets=(5, 10)),
    World("four classes", groups=80, classes=4),
    World("a rare class", groups=100, rare=0.15),
    World("ROC AUC", groups=60, figure="macro_roc_auc"),
    World("another learner", groups=60, learner="ridge"),
    World("four equal arms", groups=60, noise=(1.0, 1.0, 1.0, 1.0)),
    World("few groups, second arm better", groups=30, noise=(1.5, 0.7)),
    World("some groups, second arm better", groups=60, noise=(1.2, 0.9)),
    World("many groups, second arm better", groups=200, noise=(1.1, 1.0)),
    World("many groups, second arm much better", groups=200, noise=(1.4, 0.8)),
    # The three below were run once, after everything was chosen on those above.
    World("untouched: more features", groups=80, images=4, dimensions=20, seed_noise=0.5, budgets=(10, 0)),
    World("untouched: three classes, accuracy", groups=90, classes=3, apart=1.2, figure="accuracy", budgets=(5, 10, 0)),
    World("untouched: ridge, ROC AUC", groups=120, noise=(1.3, 1.0), bound=0.9, learner="ridge", figure="macro_roc_auc"),
)


def simulate(world: World, rng: np.random.Generator, repeats: int) -> Runs:
    """Draw a labeled set and study it."""
    of_group = np.arange(world.groups) % world.classes
    if world.rare:
        of_group = (np.arange(world.groups) < world.rare * world.groups).astype(np.int64)
    sizes = rng.integers(1, world.images + 1, world.groups)
    owner = np.repeat(np.arange(world.groups), sizes)
    truth = of_group[owner]
    features = draw_features(world, rng, of_group, owner)
    shape = (len(world.noise), len(world.budgets), repeats)
    figures = np.full((*shape, len(FIGURES)), np.nan)
    shares = np.zeros((*shape, world.groups, len(FIGURES)))
    column, images = FIGURES.index(world.figure), np.zeros((len(world.budgets), repeats))
    for repeat in range(repeats):
        test = split(of_group, rng)[owner]
        order = budget_order(owner, test, rng)
        for place, budget in enumerate(world.budgets):
            train = draw_budget(order, truth, budget, world.classes)
            images[place, repeat] = len(train)
            for arm, x in enumerate(features):
                answers = classify(world, rng, x[train], truth[train], x[test])
                one = influence(truth[test], answers, owner[test], (world.figure,))
                figures[arm, place, repeat, column] = one.figures[0]
                shares[arm, place, repeat, one.groups.astype(np.int64), column] = one.shares[:, 0]
    names = tuple(f"arm{k}" for k in range(len(world.noise)))
    groups = tuple(str(k) for k in range(world.groups))
    return Runs(names, world.budgets, tuple(range(repeats)), groups, figures, shares, images.mean(axis=1) / world.classes)


def draw_features(world: World, rng: np.random.Generator, of_group: np.ndarray, owner: np.ndarray) -> list[np.ndarray]:
    """What every arm sees of the images: what is there (class, group, image), and noise of its own; A arrays (N, D)."""
    wide = (len(of_group), world.dimensions)
    means = world.apart * np.eye(world.classes, world.dimensions)
    there = (means[of_group] + 0.8 * rng.normal(size=wide))[owner] + 0.6 * rng.normal(size=(len(owner), world.dimensions))
    shared, own = np.sqrt(world.bound), np.sqrt(1 - world.bound)
    return [
        there + noise * (shared * rng.normal(size=wide)[owner] + own * rng.normal(size=(len(owner), world.dimensions)))
        for noise in world.noise
    ]


def split(of_group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Hold out a share of the groups of every class: bool (G,)."""
    held_out = np.zeros(len(of_group), dtype=bool)
    for k in np.unique(of_group):
        members = rng.permutation(np.flatnonzero(of_group == k))
        held_out[members[: round(TEST_FRACTION * len(members))]] = True
    return held_out


def budget_order(owner: np.ndarray, test: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Training rows in the order in which budgets take them: first images of groups in random order, then second ones, and so on."""
    within = np.lexsort((rng.random(len(owner)), owner))
    turn = np.empty(len(owner), dtype=np.int64)
    turn[within] = np.arange(len(owner)) - np.searchsorted(owner, owner)[within]
    order = np.lexsort((rng.permutation(owner.max() + 1)[owner], turn))
    return order[~test[order]]


def draw_budget(order: np.ndarray, truth: np.ndarray, budget: int, classes: int) -> np.ndarray:
    """The first `budget` rows of every class; all rows for 0."""
    return order if budget == 0 else np.concatenate([order[truth[order] == k][:budget] for k in range(classes)])


def classify(world: World, rng: np.random.Generator, x: np.ndarray, truth: np.ndarray, tested: np.ndarray) -> np.ndarray:
    """Train and answer: scores (N, K), the highest is the class."""
    disturbed = world.seed_noise * rng.normal(size=(world.classes, x.shape[1]))
    if world.learner == "centroid":
        means = np.stack([x[truth == k].mean(axis=0) for k in range(world.classes)]) + disturbed
        return -((tested[:, None] - means) ** 2).sum(axis=2) / 2
    centred = x - x.mean(axis=0)
    wanted = np.eye(world.classes)[truth] - 1 / world.classes
    weights = np.linalg.solve(centred.T @ centred + len(x) * np.eye(x.shape[1]), centred.T @ wanted)
    return (tested - x.mean(axis=0)) @ (weights + 0.1 * disturbed.T)


def first(runs: Runs, repeats: int) -> Runs:
    """The study as it stood after its first repeats."""
    return Runs(
        *(runs.arms, runs.budgets, runs.repeats[:repeats], runs.groups),
        *(runs.figures[:, :, :repeats], runs.shares[:, :, :repeats], runs.labels),
    )


def truth_of(world: World, studies: int = 4000) -> np.ndarray:
    """Expected difference of the second arm and the first, by budget and then averaged: float64 (B + 1,)."""
    if len(set(world.noise)) == 1:
        return np.zeros(len(world.budgets) + 1)
    column, total = FIGURES.index(world.figure), np.zeros(len(world.budgets))
    for number in range(studies):
        figures = simulate(world, generator(world, number, "truth"), 1).figures[:, :, 0, column]
        total += figures[1] - figures[0]
    return np.append(total / studies, total.mean() / studies)


def generator(world: World, number: int, purpose: str) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(f"{world.name}:{purpose}".encode()), number])


def one_study(job: tuple[World, int, tuple[int, ...], np.ndarray]) -> dict[int, dict[str, Any]]:
    """Simulate one study and judge it by its first 3, 5 and 10 repeats."""
    world, number, repeats, truth = job
    whole = simulate(world, generator(world, number, "study"), max(repeats))
    return {count: judged(world, first(whole, count), truth) for count in repeats}


def judged(world: World, runs: Runs, truth: np.ndarray) -> dict[str, Any]:
    """What the intervals and the verdict say, beside the truth."""
    compared = compare(runs, ["arm0"], world.figure)
    one = compared[0]
    values = runs.values(difference(one.arm, one.baseline, runs.budgets), world.figure)
    claims = [answer(each.overall, each.adjusted) in CLAIMS for each in compared]
    wrong = [claim and each.overall.value * truth[-1] <= 0 for claim, each in zip(claims, compared, strict=True)]
    taken_apart = spread(values, (runs.shares[1] - runs.shares[0]).mean(axis=0)[..., FIGURES.index(world.figure)])
    intervals = [*(one.by_budget[budget] for budget in runs.budgets), one.overall]
    return {
        "covered": [float(each.low <= true <= each.high) for each, true in zip(intervals, truth, strict=True)],
        "half": (one.overall.high - one.overall.low) / 2,
        "naive": float(abs(values.mean() - truth[-1]) <= half_width(values, 1 / len(values))),
        "corrected": float(abs(values.mean() - truth[-1]) <= half_width(values, 1 / len(values) + TEST_FRACTION / (1 - TEST_FRACTION))),
        "value": one.overall.value,
        "between": taken_apart.between,
        "shared": taken_apart.shared,
        "claimed": float(any(claims)),
        "wrong": float(any(wrong)),
    }


def half_width(values: np.ndarray, factor: float) -> float:
    """Half of the t-interval over repeats: 1/R takes them for independent, 1/R + test/train is Nadeau and Bengio's correction."""
    return float(stats.t.ppf(0.975, len(values) - 1) * np.sqrt(factor * values.var(ddof=1)))


def measure(world: World, studies: int, jobs: int, repeats: tuple[int, ...] = REPEATS) -> list[dict[str, Any]]:
    """Coverage and claims in one world, one row per number of repeats."""
    truth = truth_of(world)
    work = [(world, number, repeats, truth) for number in range(studies)]
    if jobs > 1:
        with multiprocessing.get_context("spawn").Pool(jobs) as pool:
            found = pool.map(one_study, work, chunksize=20)
    else:
        found = [one_study(job) for job in work]
    return [summarised(world, float(truth[-1]), count, [one[count] for one in found]) for count in repeats]


def summarised(world: World, truth: float, repeats: int, found: list[dict[str, Any]]) -> dict[str, Any]:
    covered = np.mean([one["covered"] for one in found], axis=0).round(4).tolist()
    means = {name: round(float(np.mean([one[name] for one in found])), 4) for name in ("naive", "corrected", "half", "claimed", "wrong")}
    about = {"world": world.name, "difference": round(truth, 4), "repeats": repeats, "studies": len(found)}
    between, shared = (float(np.mean([one[name] for one in found])) for name in ("between", "shared"))
    common = float(np.var([one["value"] for one in found])) - between / repeats  # what all repeats of a study share
    return {**about, "covered_by_budget": covered[:-1], "covered": covered[-1], **means, "trained": round(common / shared - 1, 2)}


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table of docs/explanation/statistics.md."""
    heads = ("world", "difference", "repeats", "covered, by budget", "covered", "plain t", "Nadeau-Bengio", "half width")
    print("| " + " | ".join([*heads, "claimed", "wrongly", "trained"]) + " |")
    print("|" + "---|" * (len(heads) + 3))
    for row in rows:
        by_budget = " ".join(f"{100 * value:.1f}" for value in row["covered_by_budget"])
        shares = " | ".join(f"{100 * row[name]:.1f}" for name in ("covered", "naive", "corrected"))
        print(
            f"| {row['world']} | {row['difference']:+.3f} | {row['repeats']} | {by_budget} | {shares} | {row['half']:.3f} "
            f"| {100 * row['claimed']:.1f} | {100 * row['wrong']:.1f} | {row['trained']:.1f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000, help="simulated studies in every world")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--worlds", nargs="+", choices=[world.name for world in WORLDS], default=[world.name for world in WORLDS])
    parser.add_argument("--out", type=Path, help="JSON file for the rows")
    args = parser.parse_args()
    rows = [row for world in WORLDS if world.name in args.worlds for row in measure(world, args.studies, args.jobs)]
    show(rows)
    if args.out:
        args.out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
