from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl

from isograft.study.folder import StudyFolder
from isograft.study.protocols import protocol_effects


def test_the_same_answers_under_another_protocol_have_no_effect_at_all(tmp_path: Path, fabricate: Callable[..., Path]) -> None:
    """Not even where two images have the same pixels, and so the same id, but belong to two patients."""
    folder = fabricate(tmp_path / "s", skill={"scratch": 0.0, "in-domain": 0.5}, protocols=("clean", "leaky-pool"))
    rows = pl.read_parquet(folder / "results.parquet")
    clean, leaky = (rows.filter(pl.col("protocol") == name).sort("arm", "labels_per_class", "repeat") for name in ("clean", "leaky-pool"))
    for one, other in zip(clean["job"], leaky["job"], strict=True):
        path = folder / "jobs" / one / "predictions.parquet"
        answers = pl.read_parquet(path)
        answers.with_columns(id=answers["id"].gather([0, 0, *range(2, answers.height)])).write_parquet(path)
        shutil.copy(path, folder / "jobs" / other / "predictions.parquet")
    effects = protocol_effects(StudyFolder.read(folder), "macro_f1")
    told = [(arm, budget) for arm in ("scratch", "in-domain") for budget in (None, 10, 25, 0)]
    assert [(one.arm, one.labels_per_class) for one in effects] == told
    assert all((one.effect.value, one.effect.low, one.effect.high, one.effect.p) == (0.0, 0.0, 0.0, 1.0) for one in effects)
    assert all(one.reference == one.figure for one in effects)
