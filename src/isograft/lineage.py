"""Ancestors of a model, and the leaks that come from them: images it, or any ancestor, has already seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from isograft.data.duplicates import copies_of
from isograft.data.hashing import group_hash
from isograft.data.manifest import arrange
from isograft.errors import LeakageError

if TYPE_CHECKING:
    from isograft.data.manifest import Manifest
    from isograft.model import Model
    from isograft.passport import Passport

SEEN_SCHEMA: dict[str, Any] = {
    "pixel_hash": pl.String,
    "perceptual_hash": pl.UInt64,
    "look": pl.String,
    "group_hash": pl.String,
    "role": pl.String,
    "origin": pl.String,
}
"""Columns of seen.parquet. `role` says what for (`pool`, `train`, `val`), `origin` in which data set."""

LEAK_SCHEMA: dict[str, Any] = {"row": pl.Int64, "uri": pl.String, "reason": pl.String, "role": pl.String, "origin": pl.String}

SAME_PIXELS = "same pixels"
SAME_PICTURE = "near-duplicate"
SAME_GROUP = "same group"
_LISTED = 5


def seen_rows(manifest: Manifest, role: str, origin: str) -> pl.DataFrame:
    """What a model must remember of images it is trained or tuned on.

    Args:
        manifest: Those images; all readable.
        role: What they are used for, for example `pool`, `train` or `val`.
        origin: Name of the data set.

    Returns:
        A table of `SEEN_SCHEMA`, sorted, each combination once; `group_hash` is null where there is no group.
    """
    frame = arrange(manifest.frame).select("pixel_hash", "perceptual_hash", "look", _group_hashes(manifest), pl.lit(role).alias("role"))
    return merge_seen((), frame.with_columns(pl.lit(origin).alias("origin")))


def merge_seen(parents: Iterable[pl.DataFrame], own: pl.DataFrame) -> pl.DataFrame:
    """Everything the parents and the model itself have seen: sorted, each combination once."""
    return pl.concat([seen_table(frame) for frame in (*parents, own)]).unique().sort(list(SEEN_SCHEMA), nulls_last=True)


def seen_table(frame: pl.DataFrame) -> pl.DataFrame:
    """The columns of `SEEN_SCHEMA` with their types; models of earlier versions kept no look."""
    given = frame if "look" in frame.columns else frame.with_columns(look=pl.lit(None, pl.String))
    return given.select(pl.col(name).cast(kind) for name, kind in SEEN_SCHEMA.items())


def leaks(seen: pl.DataFrame, manifest: Manifest) -> pl.DataFrame:
    """Find the images of a manifest that were seen: by their pixels, as a near-duplicate, or by their group (patient, lesion).

    Groups are compared by name across data sets: two data sets that both number their patients 1, 2, 3 are taken for the
    same patients, because the opposite mistake would go unnoticed. Give such groups distinct names.

    Args:
        seen: A table of `SEEN_SCHEMA`.
        manifest: The images to be scored.

    Returns:
        One line per seen image, in row order: row (in the manifest), uri, reason (`same pixels` before `near-duplicate` before
        `same group`), role and origin under which it was seen.
    """
    rows = manifest.frame.select(pl.int_range(pl.len(), dtype=pl.Int64).alias("row"), "uri", "pixel_hash", _group_hashes(manifest))
    found = []
    for order, column, reason in ((0, "pixel_hash", SAME_PIXELS), (2, "group_hash", SAME_GROUP)):
        known = (
            seen.filter(pl.col(column).is_not_null())
            .select(column, "role", "origin")
            .sort("role", "origin")
            .unique(column, keep="first", maintain_order=True)
        )
        matched = rows.select("row", "uri", column).join(known, on=column, how="inner")
        found.append(matched.with_columns(pl.lit(reason).alias("reason"), pl.lit(order).alias("order")))
    found.append(_near(rows, seen, manifest).with_columns(order=pl.lit(1)))
    columns = [pl.col(name).cast(kind) for name, kind in LEAK_SCHEMA.items()]
    every = pl.concat([frame.select(*columns, pl.col("order").cast(pl.Int32)) for frame in found]).sort("row", "order")
    return every.unique("row", keep="first", maintain_order=True).select(columns)


def _near(rows: pl.DataFrame, seen: pl.DataFrame, manifest: Manifest) -> pl.DataFrame:
    """The rows that are near-duplicates of something seen, with the first such thing's role and origin."""
    sorted_seen = seen.sort("role", "origin", maintain_order=True)
    match = copies_of(manifest.frame, sorted_seen)
    hit = np.flatnonzero(match >= 0)
    known = sorted_seen[match[hit]].select("role", "origin")
    return pl.concat([rows[hit].select("row", "uri"), known], how="horizontal").with_columns(reason=pl.lit(SAME_PICTURE))


def check_unseen(model: Model, manifest: Manifest) -> None:
    """Refuse images that a model or an ancestor has seen.

    Raises:
        LeakageError: There are some; the first are listed.
    """
    refuse(leaks(model.seen(), manifest), len(manifest), str(model.folder))


def refuse(found: pl.DataFrame, images: int, model: str) -> None:
    """Refuse if `leaks` found anything.

    Args:
        found: What `leaks` returned.
        images: Number of images that were compared.
        model: Name of the model, for the message.

    Raises:
        LeakageError: `found` is not empty; the first are listed.
    """
    if found.is_empty():
        return
    listed = "; ".join(f"{one['uri']} ({one['reason']}, {one['role']} of {one['origin']})" for one in found.head(_LISTED).to_dicts())
    more = f"; and {len(found) - _LISTED:,} more" if len(found) > _LISTED else ""
    raise LeakageError(
        f"{len(found):,} of {images:,} images were seen by {model} or an ancestor of it: {listed}{more}; "
        "use other images, or leave them out"
    )


def lineage_text(model: Model) -> str:
    """The model's family tree: itself, below it what it was started from, and so on to the first ancestor."""
    passport: Passport = model.passport
    return "\n".join(_branch(passport.parent_entry()))


def _branch(entry: Mapping[str, Any]) -> list[str]:
    """One model and its ancestors, each indented below its child."""
    lines = [_title(entry)]
    lines += [f"  {_data_text(data)}" for data in entry.get("data", [])]
    parents = entry.get("parents") or []
    if not parents:
        lines.append(f"  started from {entry.get('init', {}).get('source') or 'scratch'}")
    for parent in parents:
        above = _branch(parent)
        lines += ["└─ " + above[0], *("   " + line for line in above[1:])]
    return lines


def _title(entry: Mapping[str, Any]) -> str:
    classes = entry.get("classes")
    of = f" of {', '.join(classes)}" if classes else ""
    return (
        f"{entry['kind']}{of}: {entry['backbone']['name']} by {entry['method']}, {entry['content_hash'][:12]}, {entry.get('created', '')}"
    )


def _data_text(data: Mapping[str, Any]) -> str:
    """A data set in words: `train: uda1, 120 images, 80 groups, fingerprint 0a1b2c3d4e5f`."""
    parts = [str(data["name"])] if data.get("name") else []
    parts += [f"{data[unit]:,} {unit}" for unit in ("images", "groups") if isinstance(data.get(unit), int)]
    if data.get("fingerprint"):
        parts.append(f"fingerprint {str(data['fingerprint'])[:12]}")
    return f"{data.get('role', 'data')}: {', '.join(parts)}"


def _group_hashes(manifest: Manifest) -> pl.Series:
    """Hash of every row's group, null where there is none: String (N,)."""
    groups = manifest.frame["group"].cast(pl.String)
    known = {group: group_hash(group) for group in groups.drop_nulls().unique()}
    return pl.Series("group_hash", [None if group is None else known[group] for group in groups], pl.String)
