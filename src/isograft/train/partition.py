"""Who is trained on, who chooses when to stop, and who is kept for the test: decided once, written to split.parquet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from isograft.data.manifest import Manifest
from isograft.data.splits import bind_identical, hold_out, label_subset
from isograft.errors import IsograftError
from isograft.plan import Plan
from isograft.settings import FinetuneSettings

Rows = npt.NDArray[np.int64]

SPLITS = ("train", "val", "test")
ENOUGH_FOR_VALIDATION = 40  # training labels of the rarest class; below, labels teach more than they can measure
VALIDATION_SHARE = 0.2


@dataclass(frozen=True)
class Partition:
    """Row numbers of a labeled manifest by role; rows in none of them are unused.

    Attributes:
        manifest: All labeled rows.
        train: Rows the weights are fitted to.
        val: Rows that choose when to stop; may be empty.
        test: Rows nothing is fitted to.
    """

    manifest: Manifest
    train: Rows
    val: Rows
    test: Rows

    def table(self) -> pl.DataFrame:
        """Return split.parquet: the manifest's rows with their split and absolute path; unused rows have none."""
        split = np.full(len(self.manifest), None, dtype=object)
        for name, rows in zip(SPLITS, (self.train, self.val, self.test), strict=True):
            split[rows] = name
        frame = self.manifest.frame
        return frame.with_columns(
            pl.Series("split", split.tolist(), dtype=pl.String),
            pl.col("uri").alias("relative_uri"),
            pl.Series("uri", [str(path) for path in self.manifest.locate()], dtype=pl.String),
        )


def partition(settings: FinetuneSettings, manifest: Manifest, plan: Plan) -> Partition:
    """Split a labeled manifest by group and class, then draw the label budget from the training side.

    A manifest that already names splits is taken at its word.

    Raises:
        IsograftError: One class only, a class without training rows, or fewer labels than asked.
    """
    labels, groups = manifest.labels(), _bound_groups(manifest)
    classes = manifest.classes()
    if len(classes) < 2:
        raise IsograftError(f"{settings.data} holds one class only ('{classes[0]}'); a classifier needs at least two")
    test, given_val = _held_out(settings, manifest, plan)
    pool = np.flatnonzero(~test & ~given_val)
    _require_all(classes, labels[pool], f"the training side of {settings.data}", "lower --test-fraction or label more groups")
    if settings.labels_per_class is not None:
        ids = [str(key) for key in manifest.frame["id"]]
        drawn = label_subset(labels[pool], groups[pool], [ids[row] for row in pool], settings.labels_per_class, settings.seed)
        pool = pool[drawn]
        plan.decide("labels_per_class", settings.labels_per_class, "as asked; training and validation together")
    val = np.flatnonzero(given_val)
    if settings.val is None and not len(val):
        chosen = _validation(settings, plan, labels[pool], groups[pool])
        val, pool = pool[chosen], pool[~chosen]
        _require_all(classes, labels[pool], "what validation leaves for training", "set --val-fraction 0")
    plan.decide("train_images", len(pool), f"of {len(set(groups[pool]))} groups")
    plan.decide("test_images", int(test.sum()), f"of {len(set(groups[test]))} groups, for evaluate")
    return Partition(manifest, pool, val, np.flatnonzero(test))


def _bound_groups(manifest: Manifest) -> npt.NDArray[np.object_]:
    return bind_identical(manifest.groups(), manifest.frame["pixel_hash"].to_list())


def _held_out(settings: FinetuneSettings, manifest: Manifest, plan: Plan) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Masks of the test rows and of validation rows the manifest itself names."""
    named = manifest.frame["split"].to_numpy(allow_copy=True) if "split" in manifest.frame.columns else np.array([None] * len(manifest))
    if any(name is not None for name in named):
        unknown = {str(name) for name in named if name is not None} - set(SPLITS)
        if unknown:
            raise IsograftError(f"{settings.data} names the split '{min(unknown)}'; use train, val or test")
        plan.decide("split", "the manifest's own", "its split column is filled")
        return named == "test", named == "val"
    plan.decide("test_fraction", settings.test_fraction, "whole groups, classes in proportion")
    return hold_out(manifest.labels(), _bound_groups(manifest), settings.test_fraction, settings.seed, "test"), np.zeros(
        len(manifest), dtype=bool
    )


def _validation(
    settings: FinetuneSettings, plan: Plan, labels: npt.NDArray[np.object_], groups: npt.NDArray[np.object_]
) -> npt.NDArray[np.bool_]:
    """Choose the validation rows among the labeled training rows, or none when labels are few."""
    rarest = min(np.unique(labels.astype(str), return_counts=True)[1])
    if rarest >= ENOUGH_FOR_VALIDATION:
        automatic, reason = VALIDATION_SHARE, f"the rarest class has {rarest} labels"
    else:
        automatic, reason = 0.0, f"the rarest class has {rarest} labels, fewer than {ENOUGH_FOR_VALIDATION}: a fixed schedule instead"
    fraction = plan.choose("val_fraction", settings.val_fraction, automatic, reason)
    return hold_out(labels, groups, fraction, settings.seed, "val")


def _require_all(classes: list[str], labels: npt.NDArray[np.object_], where: str, remedy: str) -> None:
    missing = [name for name in classes if name not in set(labels)]
    if missing:
        raise IsograftError(f"class '{missing[0]}' has no image in {where}; {remedy}")
