"""The checks of one data set by itself: files, copies and their labels, splits, unusual images, classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isograft.audit.copies import disagreements, sets_of
from isograft.audit.findings import Finding, Level
from isograft.audit.survey import Survey, listed
from isograft.data.ingest import LABEL_REMOVED
from isograft.lineage import SAME_GROUP

FEW_IMAGES = 10
FEW_GROUPS = 5
_UNUSUAL = 6.0
LISTED = 1000


def files(one: Survey) -> Iterator[Finding]:
    """Files that could not be used at ingest, or no longer can."""
    bad = one.everything.portable()[0].filter(pl.col("status") != "ok")
    if len(bad):
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(Counter(bad["status"]).items()))
        told = f"{len(bad):,} of {len(one.everything):,} files cannot be used ({kinds}); mend or delete them: they are never trained on."
        yield Finding("corrupt", "bad", one.name, told, len(bad), bad.select("uri", "status", "reason").head(LISTED))
    if one.changed:
        told = f"{len(one.changed):,} files are no longer what they were when they were ingested; ingest the data again"
        table = pl.DataFrame({"reason": one.changed[:LISTED]})
        yield Finding("corrupt", "bad", one.name, f"{told}: {listed(one.changed)}.", len(one.changed), table)


def copies_inside(one: Survey, number: int, pairs: pl.DataFrame) -> Iterator[Finding]:
    """Copies of an image in the same data set.

    Args:
        one: The data set.
        number: Its number in the audit.
        pairs: What `isograft.audit.copies.copies` found.
    """
    if not len(pairs):
        return
    groups = [one.manifest.frame["group"][pairs[name]] for name in ("row", "other")]
    apart = (groups[0].ne_missing(groups[1]) | groups[0].is_null()).to_numpy()
    told = f"{_pairs(len(pairs))} the same picture ({reasons(pairs)})"
    if apart.any():
        told += f"; {apart.sum():,} of them are not known to be of one patient: no split made here parts them, but give them one group"
    level: Level = "warning" if apart.any() else "note"
    shown = pairs[np.argsort(~apart, kind="stable")].head(LISTED)  # what nobody knew of comes first
    yield Finding("duplicate", level, one.name, f"{told}.", len(pairs), described(one, one, shown), places(number, number, shown))


def conflicts_inside(one: Survey, number: int, pairs: pl.DataFrame) -> Iterator[Finding]:
    """Copies whose labels differ, directly or by way of other copies.

    Args:
        one: The data set.
        number: Its number in the audit.
        pairs: What `isograft.audit.copies.copies` found.
    """
    frame = one.manifest.frame
    found = disagreements(sets_of(len(frame), pairs, frame["pixel_hash"].to_list()), frame["label"].to_list())
    if found:
        told = f"{_pictures(len(found))} under different labels; find out which label is right."
        chosen = as_pairs(found[:LISTED])
        yield Finding("conflict", "bad", one.name, told, len(found), described(one, one, chosen), places(number, number, chosen))
    removed = frame["reason"].str.contains(LABEL_REMOVED, literal=True).fill_null(False)
    if removed.any():
        told = f"{removed.sum():,} images lost their label at ingest, as the same pixels had another; find out which is right."
        yield Finding("conflict", "bad", one.name, told, int(removed.sum()), one.uris.filter(removed).to_frame().head(LISTED))


def splits_inside(one: Survey, number: int, pairs: pl.DataFrame) -> Iterator[Finding]:
    """Copies and groups on both sides of the data set's own splits.

    Args:
        one: The data set.
        number: Its number in the audit.
        pairs: What `isograft.audit.copies.copies` found.
    """
    split = one.manifest.frame["split"]
    if split.drop_nulls().n_unique() < 2:
        return
    frame = one.manifest.frame
    found = disagreements(sets_of(len(frame), pairs, frame["pixel_hash"].to_list()), split.to_list())
    if found:
        told = f"{_pictures(len(found))} in two different splits; put all copies of a picture into one split, or delete all but one."
        chosen = as_pairs(found[:LISTED])
        yield Finding("leak", "bad", one.name, told, len(found), described(one, one, chosen), places(number, number, chosen))
    known = one.manifest.frame.filter(pl.col("group").is_not_null() & pl.col("split").is_not_null())
    groups = known.group_by("group").agg(pl.col("split").unique().sort(), images=pl.len()).sort("group")
    both = groups.filter(pl.col("split").list.len() > 1)
    if len(both):
        told = (
            f"{len(both):,} of {known['group'].n_unique():,} groups (patients, lesions) have images in more than one split, "
            f"{both['images'].sum():,} images in all; split by group, as isograft finetune does where no split is given."
        )
        hidden = both.select(pl.col("split").list.join(", "), "images", reason=pl.lit(SAME_GROUP)).head(LISTED)
        yield Finding("leak", "bad", one.name, told, len(both), hidden)


def unusual(one: Survey) -> Iterator[Finding]:
    """Images whose size, shape, brightness or contrast is far from that of the others (robust z-score above 6)."""
    frame = one.manifest.frame.with_columns(one.uris)
    width, height = frame["width"].cast(float).to_numpy(), frame["height"].cast(float).to_numpy()
    measured = {
        "size": (np.log(width * height), 0.02),
        "aspect ratio": (np.log(width / height), 0.02),
        "brightness": (one.brightness.astype(float), 1.0),
        "contrast": (one.contrast.astype(float), 1.0),
    }
    blank = one.contrast < 1
    if blank.any():
        table = one.uris.to_frame().filter(blank).head(LISTED)
        told = f"{blank.sum():,} images are of one colour; look at them, and delete what shows nothing."
        yield Finding("unusual", "warning", one.name, told, int(blank.sum()), table)
    for name, (values, least) in measured.items():
        far = _far(values, least) & ~blank
        if far.any():
            table = frame.filter(far).select("uri", "width", "height").with_columns(value=pl.Series(np.round(values[far], 3))).head(LISTED)
            told = f"{far.sum():,} images have an unusual {name}; look at them."
            yield Finding("unusual", "note", one.name, told, int(far.sum()), table)


def classes(one: Survey) -> Iterator[Finding]:
    """How many images and groups each class has, and what is too little."""
    labeled = one.manifest.frame.filter(pl.col("label").is_not_null())
    if not len(labeled):
        return
    groups = pl.Series("owner", one.manifest.groups(), dtype=pl.String)
    counts = (
        one.manifest.frame.with_columns(groups).filter(pl.col("label").is_not_null())
        .group_by("label").agg(images=pl.len(), groups=pl.col("owner").n_unique()).sort("images", "label", descending=[True, False])
    )  # fmt: skip
    shown = ", ".join(f"{label} {images:,}" for label, images in counts.select("label", "images").head(12).rows())
    told = f"{len(labeled):,} labeled images of {len(counts):,} classes: {shown}{' and others' if len(counts) > 12 else ''}"
    few = counts.filter((pl.col("images") < FEW_IMAGES) | (pl.col("groups") < FEW_GROUPS))["label"].to_list()
    if few:
        told += f"; of {listed(few)} there are fewer than {FEW_IMAGES} images or {FEW_GROUPS} groups, too few to test anything"
    if len(counts) == 1:
        told += "; there is nothing to tell apart"
    unlabeled = len(one.manifest) - len(labeled)
    if unlabeled:
        told += f"; {unlabeled:,} images have no label"
    level: Level = "warning" if few or len(counts) == 1 else "note"
    yield Finding("classes", level, one.name, f"{told}.", len(counts), counts)


def described(one: Survey, other: Survey, pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs with their uris and labels, and whether they are known to be of one group; who that is stays untold."""
    mine = one.manifest.frame.with_columns(one.uris)[pairs["row"]].select("uri", "label", "group")
    theirs = other.manifest.frame.with_columns(other.uris)[pairs["other"]].select(pl.col("uri", "label", "group").name.prefix("other_"))
    table = pl.concat([mine, theirs, pairs.select("reason", "correlation")], how="horizontal")
    return table.with_columns(same_group=pl.col("group") == pl.col("other_group")).drop("group", "other_group")


def as_pairs(found: list[tuple[int, int]]) -> pl.DataFrame:
    """Two rows of each of several sets of copies, as a table of pairs."""
    table = pl.DataFrame(found, schema={"row": pl.Int64, "other": pl.Int64}, orient="row")
    return table.with_columns(reason=pl.lit("copies"), correlation=pl.lit(None, pl.Float32))


def reasons(found: pl.DataFrame) -> str:
    """How many of each reason, for a sentence."""
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(Counter(found["reason"]).items()))


def _pictures(count: int) -> str:
    return "1 picture stands" if count == 1 else f"{count:,} pictures stand"


def _pairs(count: int) -> str:
    return "1 pair of images shows" if count == 1 else f"{count:,} pairs of images show"


def places(number: int, other: int, pairs: pl.DataFrame) -> list[tuple[int, int, int, int]]:
    """The two images of every pair, each as the number of its data set and its row."""
    return [(number, row, other, column) for row, column in pairs.select("row", "other").rows()]


def _far(values: NDArray[np.float64], least: float) -> NDArray[np.bool_]:
    """Which values are more than six robust standard deviations (1.4826 x median absolute deviation, at least `least`) from the median."""
    middle = np.median(values)
    spread = max(1.4826 * float(np.median(np.abs(values - middle))), least)
    return np.abs(values - middle) > _UNUSUAL * spread
