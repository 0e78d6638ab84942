"""All runs of one (backbone, protocol, task) as arrays, and any weighted sum of them as an estimate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from isograft.errors import IsograftError
from isograft.study.folder import StudyFolder
from isograft.study.influence import FIGURES, Influence, influence
from isograft.study.statistics import Estimate, estimate

Floats = npt.NDArray[np.float64]
Cell = tuple[str, int]
"""An arm and a label budget."""


@dataclass(frozen=True)
class Runs:
    """The runs of one (backbone, protocol, task).

    Attributes:
        arms: A names, in the order of the study file.
        budgets: B label budgets per class, rising; 0 (all labels) comes last.
        repeats: R numbers.
        groups: G names of groups tested in any run.
        figures: float64 (A, B, R, F); NaN where a run is missing or the figure undefined.
        shares: float64 (A, B, R, G, F), see `Influence`; 0 where the group was not tested.
        labels: float64 (B,) labels per class: the budget, or the mean number of training images per class for all labels.
    """

    arms: tuple[str, ...]
    budgets: tuple[int, ...]
    repeats: tuple[int, ...]
    groups: tuple[str, ...]
    figures: Floats
    shares: Floats
    labels: Floats

    @classmethod
    def read(cls, folder: StudyFolder, scope: tuple[str, str, str]) -> Runs:
        """Read the predictions of all runs.

        Args:
            folder: The study.
            scope: Backbone, protocol, task.
        """
        rows = folder.rows(scope)
        arms = _in_order(rows["arm"].unique().to_list(), list(folder.spec.get("arms", {})))
        budgets = tuple(sorted(rows["labels_per_class"].unique().to_list(), key=lambda n: (n == 0, n)))
        repeats = tuple(sorted(rows["repeat"].unique().to_list()))
        found: dict[tuple[int, int, int], Influence] = {}
        tested: dict[int, pl.DataFrame] = {}
        for row in rows.iter_rows(named=True):
            place = (arms.index(row["arm"]), budgets.index(row["labels_per_class"]), repeats.index(row["repeat"]))
            answers = folder.predictions(row["job"])
            found[place] = _influence(answers, row["job"])
            rows_tested = answers.select("id", "group", "truth")
            if not tested.setdefault(row["repeat"], rows_tested).equals(rows_tested):
                raise IsograftError(
                    f"the runs of repeat {row['repeat']} of the task {scope[2]} were tested on different images (job {row['job']}), "
                    "so their differences are not paired; run the study anew in another --out"
                )
        groups = tuple(sorted({str(name) for one in found.values() for name in one.groups}))
        figures, shares = _arrays(found, (len(arms), len(budgets), len(repeats)), np.array(groups))
        return cls(arms, budgets, repeats, groups, figures, shares, _labels(rows, budgets, len(folder.classes.get(scope[2], ())) or 2))

    def values(self, weights: Mapping[Cell, float], figure: str) -> Floats:
        """A weighted sum of runs in every repeat: float64 (R,); NaN where one of them is missing or undefined."""
        total = np.zeros(len(self.repeats))
        for (arm, budget), weight in weights.items():
            total = total + weight * self.figures[self.arms.index(arm), self.budgets.index(budget), :, FIGURES.index(figure)]
        return total

    def contrast(self, weights: Mapping[Cell, float], figure: str) -> Estimate:
        """Estimate a weighted sum of runs, over the repeats that have all of them.

        Args:
            weights: Weight of each arm and budget; +1 and -1 make a paired difference.
            figure: One of `FIGURES`.
        """
        values = self.values(weights, figure)
        whole = np.isfinite(values)
        shares = np.zeros((int(whole.sum()), len(self.groups)))
        for (arm, budget), weight in weights.items():
            part = self.shares[self.arms.index(arm), self.budgets.index(budget), ..., FIGURES.index(figure)]
            shares += weight * part[whole]
        return estimate(values[whole], shares)


def _influence(answers: pl.DataFrame, job: str) -> Influence:
    columns = [name for name in answers.columns if name[0] == "p" and name[1:].isdigit()]
    if not {"id", "group", "truth"} <= {*answers.columns} or not columns:
        raise IsograftError(f"the predictions of the job {job} lack id, group, truth or p0; run the study again")
    columns.sort(key=lambda name: int(name[1:]))
    groups = answers["group"].cast(pl.String).to_list()
    return influence(answers["truth"].to_numpy(), answers.select(columns).to_numpy(), np.array(groups, dtype=str))


def _arrays(
    found: dict[tuple[int, int, int], Influence], shape: tuple[int, int, int], groups: npt.NDArray[np.str_]
) -> tuple[Floats, Floats]:
    figures = np.full((*shape, len(FIGURES)), np.nan)
    shares = np.zeros((*shape, len(groups), len(FIGURES)))
    for place, one in found.items():
        figures[place] = one.figures
        shares[(*place, np.searchsorted(groups, one.groups))] = one.shares
    return figures, shares


def _labels(rows: pl.DataFrame, budgets: tuple[int, ...], classes: int) -> Floats:
    images = [float(rows.filter(pl.col("labels_per_class") == budget)["train_images"].to_numpy().mean()) for budget in budgets]
    return np.array([float(budget) if budget else mean / classes for budget, mean in zip(budgets, images, strict=True)])


def _in_order(names: list[str], wanted: list[str]) -> tuple[str, ...]:
    return tuple(sorted(names, key=lambda name: (wanted.index(name) if name in wanted else len(wanted), name)))


def join(first: Runs, second: Runs, mark: str) -> Runs:
    """Put the runs of two protocols side by side; the arms of `second` are called `mark` + name. Budgets and repeats are those of both."""
    budgets = tuple(budget for budget in first.budgets if budget in second.budgets)
    repeats = tuple(repeat for repeat in first.repeats if repeat in second.repeats)
    groups = tuple(sorted({*first.groups, *second.groups}))
    figures, shares = [], []
    for runs in (first, second):
        cells = np.ix_(range(len(runs.arms)), [runs.budgets.index(b) for b in budgets], [runs.repeats.index(r) for r in repeats])
        figures.append(runs.figures[cells])
        spread = np.zeros((*figures[-1].shape[:3], len(groups), len(FIGURES)))
        spread[:, :, :, np.searchsorted(np.array(groups), np.array(runs.groups))] = runs.shares[cells]
        shares.append(spread)
    return Runs(
        (*first.arms, *(mark + arm for arm in second.arms)),
        *(budgets, repeats, groups, np.concatenate(figures), np.concatenate(shares)),
        labels=first.labels[[first.budgets.index(budget) for budget in budgets]],
    )
