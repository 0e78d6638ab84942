"""Studies of real images: what careless protocols do to a figure, and a study that is killed again and again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

import isograft

SOURCE = Path(isograft.__file__).resolve().parents[1]
MOMENTS = (0, 1, 3, 5, 8)
"""A study of 13 jobs is killed once so many are finished, a random moment later."""


def write_study(folder: Path, data: Path, **changes: Any) -> Path:
    """A study of the dermoscopy of Rosendahl's clinic, with the faces of Vienna for a pool."""
    ham10000 = {"data": str(data / "skin/ham10000/images"), "labels": str(data / "skin/ham10000/metadata.csv"), "group_column": "lesion_id"}
    spec = {
        "title": "A real study",
        "pools": {"faces": {**ham10000, "where": "dataset != 'rosendahl' AND localization = 'face'"}},
        "tasks": {
            "lesions": {**ham10000, "label_column": "dx", "where": "dataset = 'rosendahl' AND dx IN ('nv', 'mel', 'bkl', 'bcc', 'akiec')"}
        },
        "repeats": 3,
        "finetune": {"strategy": "probe"},
        **changes,
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_splitting_by_image_flatters_the_result(real_data: Path, cache: Path, tmp_path: Path) -> None:
    """HAM10000 has up to five pictures of one lesion: some are trained on, the others tested."""
    study = write_study(
        tmp_path,
        real_data,
        pools={},
        arms={"imagenet": ["imagenet"]},
        protocols=["clean", "image-split"],
        labels_per_class="all",
        backbones="tf_efficientnet_lite0",
        image_size=64,
    )
    summary = isograft.study(study, out=tmp_path / "out", cache_dir=cache, jobs=1)
    (effect,) = summary["protocol_effects"]  # of one budget
    assert (effect["arm"], effect["protocol"]) == ("imagenet", "image-split")
    assert effect["figure"] - effect["reference"] == pytest.approx(effect["effect"]["value"])
    assert effect["effect"]["low"] > 0
    assert 0.02 < effect["effect"]["value"] < 0.1


def test_a_pool_with_the_test_images_is_counted_and_its_effect_measured(real_data: Path, cache: Path, tmp_path: Path) -> None:
    study = write_study(
        tmp_path,
        real_data,
        arms={"scratch": [], "pool": ["pool:faces"]},
        protocols=["clean", "leaky-pool"],
        labels_per_class=25,
        backbones="test_resnet",
        image_size=32,
        pretrain={"epochs": 1},
    )
    summary = isograft.study(study, out=tmp_path / "out", cache_dir=cache, jobs=1)
    rows = pl.read_parquet(tmp_path / "out/results.parquet").filter(pl.col("arm") == "pool")
    clean, leaky = (rows.filter(pl.col("protocol") == name) for name in ("clean", "leaky-pool"))
    assert {*leaky["pool_removed"]} == {0}
    assert {*leaky["pool_images"]} == {*(clean["pool_images"] + clean["pool_removed"] + 2226)}
    (effect,) = [one for one in summary["protocol_effects"] if one["arm"] == "pool"]
    assert effect["protocol"] == "leaky-pool"
    assert effect["effect"]["value"] == pytest.approx(leaky["macro_f1"].mean() - clean["macro_f1"].mean())
    assert "those tested among them, stand in the pool" in (tmp_path / "out/report.md").read_text(encoding="utf-8")


def test_a_study_killed_five_times_ends_in_the_bytes_of_one_never_killed(real_data: Path, cache: Path, tmp_path: Path) -> None:
    study = write_study(
        tmp_path,
        real_data,
        arms={"scratch": [], "pool": ["pool:faces"]},
        labels_per_class=[5, 10],
        backbones="test_resnet",
        image_size=32,
        pretrain={"epochs": 1},
        finetune={"strategy": "full", "epochs": 1},
    )
    run(study, tmp_path / "whole", cache)
    moments = random.Random(1)
    for wanted in MOMENTS:
        process = subprocess.Popen(command(study, tmp_path / "killed", cache), env=ENVIRONMENT, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None and finished(tmp_path / "killed") < wanted:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert MOMENTS[-1] <= finished(tmp_path / "killed") < finished(tmp_path / "whole") == 13
    run(study, tmp_path / "killed", cache)
    assert (tmp_path / "killed/results.parquet").read_bytes() == (tmp_path / "whole/results.parquet").read_bytes()
    assert pl.read_parquet(tmp_path / "killed/results.parquet").height == 12


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}


def finished(out: Path) -> int:
    """How many jobs are."""
    return len([path for path in out.glob("jobs/*/done.json") if ".partial-" not in path.parent.name])


def command(study: Path, out: Path, cache: Path) -> list[str]:
    """Begin the study, or go on with it."""
    words = [sys.executable, "-m", "isograft", "study", str(study), "--out", str(out), "--cache-dir", str(cache), "--jobs", "2"]
    return [*words, "--resume"] if (out / "run.json").is_file() else words


def run(study: Path, out: Path, cache: Path) -> None:
    subprocess.run(command(study, out, cache), env=ENVIRONMENT, check=True, capture_output=True, timeout=300)
