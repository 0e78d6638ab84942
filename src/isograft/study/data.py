"""The pools and tasks of a study, opened once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from isograft.data.manifest import Manifest
from isograft.data.source import open_data
from isograft.settings import DataSettings
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


def _open(entry: DataSpec, cache_dir: Path, threads: int, need_labels: bool) -> Manifest:
    columns = entry.model_dump(include={"labels", "path_column", "label_column", "group_column", "where"})
    return open_data(entry.data, DataSettings(**columns, cache_dir=cache_dir, threads=threads), need_labels=need_labels)
