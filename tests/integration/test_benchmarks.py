"""The short benchmarks run from end to end, at the smallest settings and without a claim about their figures; the long ones start."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    draw = np.random.default_rng(0)
    for number in range(40):
        coarse = draw.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.jpg"), cv2.resize(coarse, (64, 48), interpolation=cv2.INTER_CUBIC))
    return folder


def run(script: str, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / script), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode in codes, done.stderr
    return done.stdout


def test_the_throughput_benchmark_compares_the_whole_path_with_the_bare_step(photographs: Path, tmp_path: Path) -> None:
    small = ["--backbone", "test_resnet", "--size", "32", "--batch-size", "16", "--steps", "3", "--threads", "1"]
    run("throughput.py", "--images", str(photographs), *small, "--json", str(tmp_path / "figures.json"))
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["ratio"] == pytest.approx(figures["pipeline_images_per_s"] / figures["ready_images_per_s"], rel=0.02)


def test_the_ingest_benchmark_compares_ingest_with_bare_decoding(photographs: Path) -> None:
    figures = json.loads(run("ingest.py", str(photographs), "--rounds", "1", "--threads", "1"))
    assert figures["images"] == 40
    assert figures["ratio_wall"] == pytest.approx(figures["ingest_images_per_s"] / figures["bare_images_per_s"], rel=0.1)


def test_the_benchmark_of_the_views_covers_both_sizes(tmp_path: Path) -> None:
    run(
        "augmentation.py", "--rounds", "1", "--out", str(tmp_path / "figures.json"), codes=(0, 1)
    )  # 1: a claim was missed, on a busy machine
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    assert {row["size"] for row in figures} == {64, 224}
    assert all(row["isograft"] > 0 and row["torchvision"] > 0 for row in figures)


def test_the_benchmark_of_a_studys_overhead_counts_every_second_outside_a_job(photographs: Path, tmp_path: Path) -> None:
    for place, file in enumerate(sorted(photographs.iterdir())):
        target = tmp_path / "task" / "ab"[place % 2] / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    small = {"backbones": ["test_resnet"], "image_size": 32, "labels_per_class": [3], "repeats": 2, "finetune": {"strategy": "probe"}}
    study = {"title": "tiny", "tasks": {"t": {"data": "task"}}, "arms": {"scratch": []}, **small}
    (tmp_path / "study.yaml").write_text(json.dumps(study))
    further = ("--out", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache"))
    figures = json.loads(run("study_overhead.py", str(tmp_path / "study.yaml"), *further, codes=(0, 1)))  # 1: one short job is all overhead
    assert (figures["jobs"], figures["runs"]) == (1, 2)
    assert figures["overhead_seconds"] == pytest.approx(figures["wall_seconds"] - figures["job_seconds"], abs=0.11)
    assert figures["overhead_share"] > 0


@pytest.mark.parametrize("script", ["predict.py", "engines.py"])
def test_a_benchmark_of_predict_explains_itself(script: str) -> None:
    assert "--rounds" in run(script, "--help")


@pytest.mark.parametrize("script", ["label_efficiency.py", "recipe.py", "suggest.py", "out_of_domain.py", "conformal_coverage.py"])
def test_a_long_benchmark_explains_itself(script: str) -> None:
    assert "--out" in run(script, "--help")


def test_the_benchmark_of_the_server_explains_itself() -> None:
    assert "--minutes" in run("serve.py", "--help")


def test_the_benchmark_of_near_duplicates_finds_what_it_planted(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in run("duplicates.py", "--images", "500", "2000").splitlines()]
    assert [line["planted_found"] for line in lines[:2]] == [1.0, 1.0] and lines[1]["images"] == 2000
