"""The pools and tasks of a study, opened once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from isograft.data.manifest import SCHEMA, Manifest, absolute_uri, arrange
from isograft.data.source import open_data
from isograft.settings import DataSettings, TableSettings
from isograft.study.spec import DataSpec, Protocol, StudySpec

IMAGE_SPLIT = ("image-split", "paper")
LEAKY_POOL = ("leaky-pool", "paper")


@dataclass(frozen=True)
class StudyData:
    """Manifests by name; every row can be read, and every row of a task has a label.

    Attributes:
        pools: Unlabeled images.
        tasks: Labeled images.
    """

    pools: dict[str, Manifest]
    tasks: dict[str, Manifest]

    def task(self, name: str, protocol: Protocol) -> Manifest:
        """A task's images as a protocol splits them: by their groups, or each image on its own."""
        manifest = self.tasks[name]
        if protocol not in IMAGE_SPLIT:
            return manifest
        return Manifest(manifest.frame.with_columns(group=pl.lit(None, pl.String)), manifest.path)


def open_study_data(spec: StudySpec, cache_dir: Path, threads: int) -> StudyData:
    """Open all pools and tasks.

    Raises:
        IsograftError: One cannot be read, or a task has no labels.
    """
    return StudyData(
        {name: _open(entry, cache_dir, threads, need_labels=spec.pretrain.method == "supervised") for name, entry in spec.pools.items()},
        {name: _open(entry, cache_dir, threads, need_labels=True) for name, entry in spec.tasks.items()},
    )


def content(manifest: Manifest) -> str:
    """What a manifest's rows are and, where it names splits itself, who is tested; the fingerprint alone does not tell folds apart."""
    if not names_splits(manifest):
        return manifest.fingerprint()
    places = sorted(repr(pair) for pair in manifest.frame.select("pixel_hash", "split").rows())
    return hashlib.sha256("\n".join([manifest.fingerprint(), *places]).encode()).hexdigest()


def names_splits(manifest: Manifest) -> bool:
    """Whether the data say themselves who is trained on and who is tested."""
    return manifest.frame["split"].null_count() < len(manifest)


def stacked(manifests: list[Manifest]) -> Manifest:
    """The rows of several manifests that a comparison needs: pixels, look and group."""
    wanted = ("pixel_hash", "perceptual_hash", "look", "group")
    return Manifest(pl.concat([arrange(manifest.frame).select(wanted) for manifest in manifests]))


def joined(pool: Manifest, task: Manifest) -> Manifest:
    """A pool with the images of a task in it, without their labels; its uris are absolute."""
    frames = []
    for manifest in (pool, task):
        uris = pl.Series("uri", [absolute_uri(place) for place in manifest.addresses()], pl.String)
        frames.append(manifest.frame.with_columns(uris, label=pl.lit(None, pl.String)).select(list(SCHEMA)))
    return Manifest(pl.concat(frames))


def _open(entry: DataSpec, cache_dir: Path, threads: int, need_labels: bool) -> Manifest:
    columns = entry.model_dump(include={*TableSettings.model_fields})
    return open_data(entry.data, DataSettings(**columns, cache_dir=cache_dir, threads=threads), need_labels=need_labels)
