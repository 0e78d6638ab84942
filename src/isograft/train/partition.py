"""Who is trained on, who chooses when to stop, and who is kept for the test: decided once, written to split.parquet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from isograft import console
from isograft.data.duplicates import bound_groups
from isograft.data.manifest import Manifest
from isograft.data.splits import hold_out, label_subset
from isograft.errors import IsograftError
from isograft.plan import Plan
from isograft.settings import IDLE, FinetuneSettings

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

    def table(self) -> tuple[pl.DataFrame, Path]:
        """Return split.parquet, the manifest's rows with their split (null where unused), and the folder that its uris start at."""
        split = np.full(len(self.manifest), None, dtype=object)
        for name, rows in zip(SPLITS, (self.train, self.val, self.test), strict=True):
            split[rows] = name
        frame, folder = self.manifest.portable()
        return frame.with_columns(pl.Series("split", split.tolist(), dtype=pl.String)), folder


def partition(settings: FinetuneSettings, manifest: Manifest, plan: Plan) -> Partition:
    """Split a labeled manifest by group and class, then draw the label budget from the training side.

    A manifest that already names splits is taken at its word; its rows without a split are unused.

    Raises:
        IsograftError: One class only, a class without training rows, fewer labels than asked, a group in two of the manifest's own
            splits, or an option that these leave without use.
    """
    labels, groups = manifest.labels(), bound_groups(manifest)
    classes = manifest.classes()
    if len(classes) < 2:
        raise IsograftError(f"{settings.data} holds one class only ('{classes[0]}'); a classifier needs at least two")
    named = _named_splits(settings, manifest, groups, plan)
    if named is None:
        test = hold_out(labels, groups, settings.test_fraction, settings.seed, "test")
        plan.state("test_fraction", settings.test_fraction, "whole groups, classes in proportion")
        pool, val = np.flatnonzero(~test), np.flatnonzero(np.zeros_like(test))
    else:
        test = named == "test"
        pool, val = np.flatnonzero(named == "train"), np.flatnonzero(named == "val")
        _require_all(classes, labels[pool], settings.data)
    _warn_of_untested(settings, labels, groups, test, named is not None)
    if settings.labels_per_class is not None:
        ids = [str(key) for key in manifest.frame["id"]]
        drawn = label_subset(labels[pool], groups[pool], [ids[row] for row in pool], settings.labels_per_class, settings.seed)
        pool = pool[drawn]
    carved = False
    if settings.val is None and not len(val):
        chosen = _validation(settings, plan, labels[pool], groups[pool])
        val, pool = pool[chosen], pool[~chosen]
        carved = bool(chosen.any())
    if settings.labels_per_class is not None:
        plan.state("labels_per_class", settings.labels_per_class, "as asked" + carved * "; training and validation together")
    plan.state("train_images", len(pool), f"of {len(set(groups[pool]))} groups")
    plan.state("test_images", int(test.sum()), f"of {len(set(groups[test]))} groups, for evaluate")
    return Partition(manifest, pool, val, np.flatnonzero(test))


def _named_splits(
    settings: FinetuneSettings, manifest: Manifest, groups: npt.NDArray[np.object_], plan: Plan
) -> npt.NDArray[np.object_] | None:
    """The split the manifest itself names for every row, None where it names none: object (N,), or None if it names none at all."""
    frame = manifest.frame
    if "split" not in frame.columns or frame["split"].null_count() == len(frame):
        return None
    named = np.array([*frame["split"], None], dtype=object)[:-1]
    unknown = sorted({*frame["split"].drop_nulls()} - set(SPLITS))
    if unknown:
        raise IsograftError(f"{settings.data} names the split '{unknown[0]}'; use train, val or test")
    first: dict[str, int] = {}
    for row, (group, split) in enumerate(zip(groups, named, strict=True)):
        if split is not None and named[other := first.setdefault(group, row)] != split:
            one, two = (frame["uri"][place] for place in (other, row))
            raise IsograftError(
                f"{settings.data}: {one} stands in the split '{named[other]}' and {two} in '{split}', but they are of one group, "
                "show the same picture, or are joined by images that do; give them one split (isograft audit shows all such pairs)"
            )
    _refuse_idle(settings, {*named})
    plan.state("split", "the manifest's own", "its split column is filled")
    if unused := frame["split"].null_count():
        plan.state("unused_images", unused, "their split column is empty while others' is filled")
    return named


def _refuse_idle(settings: FinetuneSettings, named: set[str | None]) -> None:
    """Refuse options that the manifest's own splits leave without use."""
    options = []
    if settings.test_fraction not in (0, FinetuneSettings.model_fields["test_fraction"].default):
        options.append(f"--test-fraction {settings.test_fraction}")
    if "val" in named and settings.val_fraction != "auto":
        options.append(f"--val-fraction {settings.val_fraction}")
    if "val" in named and settings.folds is not None:
        options.append(f"--folds {settings.folds}")
    if options:
        names = " and names val rows" if options[0].startswith("--folds") else ""
        raise IsograftError(f"{options[0]} would be unused, as the split column of {settings.data} is filled{names}; leave it out")
    if "val" in named and settings.val is not None:
        raise IsograftError(
            f"the split column of {settings.data} names val rows, and --val {settings.val} is given; leave out the one or the other"
        )


def _warn_of_untested(
    settings: FinetuneSettings, labels: npt.NDArray[np.object_], groups: npt.NDArray[np.object_], test: npt.NDArray[np.bool_], named: bool
) -> None:
    """Say which classes the test split lacks, and why, unless no test split was wanted."""
    if settings.test_fraction == 0:
        return
    for name in sorted(set(labels) - set(labels[test])):
        if named:
            console.warn(f"class '{name}' has no test row in the split column of {settings.data} and cannot be tested")
        elif len(set(groups[labels == name])) == 1:
            console.warn(f"class '{name}' has a single group (patient) and cannot be tested; label images of more groups")
        else:
            console.warn(f"class '{name}' has no group that training can spare and cannot be tested; label images of more groups")


def _validation(
    settings: FinetuneSettings, plan: Plan, labels: npt.NDArray[np.object_], groups: npt.NDArray[np.object_]
) -> npt.NDArray[np.bool_]:
    """Choose the validation rows among the labeled training rows, or none when labels are few."""
    if (why := IDLE.get(settings.strategy, {}).get("val_fraction")) is not None:
        plan.choose("val_fraction", settings.val_fraction, 0.0, f"{why}: nothing to validate")
        return np.zeros(len(labels), dtype=bool)
    if settings.folds is not None:
        plan.choose("val_fraction", settings.val_fraction, 0.0, "with folds every image is held out once, and chooses nothing")
        return np.zeros(len(labels), dtype=bool)
    rarest = min(np.unique(labels.astype(str), return_counts=True)[1])
    if rarest >= ENOUGH_FOR_VALIDATION:
        automatic, reason = VALIDATION_SHARE, f"the rarest class has {rarest} labels"
    else:
        automatic, reason = 0.0, f"the rarest class has {rarest} labels, fewer than {ENOUGH_FOR_VALIDATION}: a fixed schedule instead"
    fraction = plan.choose("val_fraction", settings.val_fraction, automatic, reason)
    return hold_out(labels, groups, fraction, settings.seed, "val")


def _require_all(classes: list[str], labels: npt.NDArray[np.object_], data: str) -> None:
    missing = [name for name in classes if name not in set(labels)]
    if missing:
        raise IsograftError(
            f"class '{missing[0]}' has no image in the training side of {data}; write train into the split column of some of its rows"
        )
