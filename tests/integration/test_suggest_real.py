"""One round of labeling on real photographs: suggest, label, ingest, train on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

import isograft

QUICK: dict[str, Any] = {"backbone": "test_resnet", "init": "scratch", "image_size": 32, "strategy": "probe", "threads": 1}


def test_a_round_of_labeling_on_foot_patches(real_data: Path, tmp_path: Path) -> None:
    foot = real_data / "foot"
    table = pl.read_csv(foot / "patches.csv").with_columns(image=pl.concat_str(pl.lit(f"{foot}/"), "file"))
    photographs = table["source_image"].unique().sort()
    start, pool = (table.filter(pl.col("source_image").is_in(names.implode())) for names in (photographs[:60], photographs[60:260]))
    start.select("image", "label", group="source_image").write_csv(tmp_path / "start.csv")
    pool.select("image", group="source_image").write_csv(tmp_path / "pool.csv")
    common = {"cache_dir": tmp_path / "cache", **QUICK}
    model = isograft.finetune(tmp_path / "start.csv", out=tmp_path / "model", keep_thumbnails=True, **common)
    asked = isograft.suggest(model, tmp_path / "pool.csv", n=40, out=tmp_path / "next.csv", threads=1)
    assert len(asked) == asked["id"].n_unique() == asked["group"].n_unique() == 40
    assert set(asked["why"]) <= {"unsure between skin and ulcer", "unsure between ulcer and skin"}
    assert (asked["p_predicted"].head(10).mean() or 1) < (asked["p_predicted"].tail(10).mean() or 0)

    answers = isograft.predict(model, tmp_path / "next.csv", out=tmp_path / "answers.csv", threads=1)
    assert answers["id"].to_list() == asked["id"].to_list() and answers["input_predicted"].to_list() == answers["predicted"].to_list()

    truth = dict(table.select("file", "label").rows())
    asked.with_columns(label=pl.Series([truth["/".join(uri.rsplit("/", 2)[-2:])] for uri in asked["uri"]])).write_csv(tmp_path / "next.csv")
    options: dict[str, Any] = {"labels": tmp_path / "next.csv", "path_column": "uri", "where": "label IS NOT NULL", "threads": 1}
    labeled = isograft.ingest(foot, out=tmp_path / "labeled.parquet", allow_missing=True, **options)
    assert sorted(labeled.frame["id"]) == sorted(asked["id"]) and labeled.frame["group"].n_unique() == 40
    further = isograft.finetune(tmp_path / "next.csv", out=tmp_path / "further", **common)
    again = isograft.suggest(further, tmp_path / "pool.csv", n=40, out=tmp_path / "again.csv", strategy="coverage", threads=1)
    assert not set(again["id"]) & set(asked["id"])
