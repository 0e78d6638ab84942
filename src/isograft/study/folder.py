"""A study's folder as it lies on disk: the resolved spec, the table of runs, the ledger and every run's predictions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import polars as pl

from isograft.errors import IsograftError
from isograft.study.ledger import read_entries
from isograft.study.places import JOBS_FOLDER, KEYS, LEDGER_FILE, PREDICTIONS_FILE, RESULTS_FILE, SCOPE, STUDY_FILE

COLUMNS = (*KEYS, "train_images", "test_images", "test_groups", "pool_images", "pool_removed", "job")


@dataclass(frozen=True)
class StudyFolder:
    """What a study left on disk.

    Attributes:
        path: The folder.
        spec: The resolved study file, as JSON.
        left_out: Sentences about arms that do not apply somewhere.
        software: Versions by name.
        classes: Class names by task.
        results: results.parquet, one row per finished run, sorted by `KEYS`.
        ledger: Finished jobs by key; of a job that was done twice, the last time.
        synthetic: Whether the images are drawn by a program, by what the spec says of itself.
        fixed_splits: Tasks whose data name their own splits.
        unknown_past: Names of the weights files that arms start from.
    """

    path: Path
    spec: dict[str, Any]
    left_out: list[str]
    software: dict[str, str]
    classes: dict[str, list[str]]
    results: pl.DataFrame
    ledger: dict[str, dict[str, Any]]
    synthetic: bool
    fixed_splits: list[str]
    unknown_past: list[str]

    @classmethod
    def read(cls, path: Path) -> StudyFolder:
        """Read everything but the predictions.

        Raises:
            IsograftError: A file is missing or not what it should be.
        """
        about = _json(path / STUDY_FILE)
        if not isinstance(about.get("spec"), dict):
            raise IsograftError(f"{path / STUDY_FILE} holds no spec; run isograft study again")
        return cls(
            path,
            about["spec"],
            list(about.get("left_out", [])),
            dict(about.get("software", {})),
            {task: list(names) for task, names in about.get("classes", {}).items()},
            _results(path / RESULTS_FILE),
            {entry["key"]: entry for entry in read_entries(path / LEDGER_FILE)},
            bool(about.get("synthetic")) or _says_synthetic(about["spec"]),
            list(about.get("fixed_splits", [])),
            list(about.get("unknown_past", [])),
        )

    def predictions(self, job: str) -> pl.DataFrame:
        """Read what a run answered: id, group, truth, p0 to pK-1; one row per test image."""
        path = self.path / JOBS_FOLDER / job / PREDICTIONS_FILE
        try:
            return pl.read_parquet(path)
        except (OSError, pl.exceptions.PolarsError):
            raise IsograftError(f"{path} is missing or damaged; delete {path.parent.parent} and continue with --resume") from None

    def scopes(self) -> list[tuple[str, str, str]]:
        """Every (backbone, protocol, task) with a run, in the order of the spec."""
        order = {name: place for key in ("backbones", "protocols", "tasks") for place, name in enumerate(self.spec.get(key, ()))}
        found = self.results.select(SCOPE).unique().rows()
        return sorted(found, key=lambda scope: [(order.get(name, len(order)), name) for name in (scope[0], scope[2], scope[1])])

    def rows(self, scope: tuple[str, str, str]) -> pl.DataFrame:
        """The rows of results.parquet of one (backbone, protocol, task)."""
        return self.results.filter(*(pl.col(name) == value for name, value in zip(SCOPE, scope, strict=True)))

    @property
    def strategy(self) -> str:
        """How tasks are trained on."""
        return str(self.spec.get("finetune", {}).get("strategy", "auto"))

    def title(self, task: str) -> str:
        """A task in words, or its name."""
        return str(self.spec.get("tasks", {}).get(task, {}).get("title") or task)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise IsograftError(f"{path} is missing or no JSON; give the folder that isograft study wrote") from None
    if not isinstance(content, dict):
        raise IsograftError(f"{path} is no JSON object; give the folder that isograft study wrote")
    return content


def _results(path: Path) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError):
        raise IsograftError(f"{path} is missing or no Parquet file; give the folder that isograft study wrote") from None
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise IsograftError(f"{path} has no column '{missing[0]}'; it was written by another version: run the study again")
    if frame.is_empty():
        raise IsograftError(f"{path} holds no finished run; run isograft study first")
    return frame.sort(KEYS)


def _says_synthetic(spec: dict[str, Any]) -> bool:
    """Whether the title, or a pool or task by its name, title or data, calls itself synthetic."""
    words = [spec.get("title", "")]
    for entries in (spec.get("pools", {}), spec.get("tasks", {})):
        for name, entry in entries.items():
            words += [name, entry.get("title", ""), PurePath(entry.get("data", "")).name]
    return any("synthetic" in str(word).lower() for word in words)
