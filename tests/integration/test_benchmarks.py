"""The short benchmarks run from end to end, at the smallest settings and without a claim about their figures; the long ones start.

No peer is installed here, so what is said of a missing one is tested too.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import timm
from safetensors.torch import load_file

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"
NOBODY = "/nobody/bin/python"


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


def result(script: str, tmp_path: Path, *arguments: str, codes: tuple[int, ...] = (0,)) -> Any:
    """The JSON of a quick run; whatever it holds was printed too."""
    said = run(script, "--quick", *arguments, "--json", str(tmp_path / "result.json"), codes=codes)
    found = json.loads((tmp_path / "result.json").read_text())
    assert found["machine"]["cores"] >= 1 and found["machine"]["processor"] in said
    return found


def test_the_ingest_benchmark_compares_ingest_with_bare_decoding(photographs: Path, tmp_path: Path) -> None:
    figures = result("ingest.py", tmp_path, str(photographs), "--threads", "1")["folders"][0]
    assert figures["images"] == 40
    assert figures["ratio_wall"] == pytest.approx(figures["ingest_images_per_s"] / figures["bare_images_per_s"], rel=0.1)


def test_the_benchmark_of_the_views_covers_both_sizes(tmp_path: Path) -> None:
    figures = result("augmentation.py", tmp_path, codes=(0, 1))["views_per_s_of_one_thread"]  # 1: a claim was missed, on a busy machine
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
    further = ("--out", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache"), "--json", str(tmp_path / "figures.json"))
    run("study_overhead.py", str(tmp_path / "study.yaml"), *further, codes=(0, 1))  # 1: one short job is all overhead
    figures = json.loads((tmp_path / "figures.json").read_text())
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
    figures = result("duplicates.py", tmp_path)
    assert figures["least_planted_found"] == 1.0 and [one["images"] for one in figures["sizes"]] == [500, 2000]


def test_pretraining_is_compared_and_a_missing_peer_is_named(photographs: Path, tmp_path: Path) -> None:
    classes = tmp_path / "classes"
    for place, file in enumerate(sorted(photographs.iterdir())):
        target = classes / "ab"[place % 2] / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    further = ("--images", str(classes), "--speed-images", "0", "--threads", "1", "--peer-python", NOBODY, "--out", str(tmp_path / "out"))
    figures = result("peers_pretrain.py", tmp_path, *further)
    (row,) = figures["auc_against_seconds"]
    assert row["tool"] == "isograft" and row["seconds"] > 0 and 0 <= row["auc"] <= 1 and row["pss_mb"] > 50
    assert figures["skipped"][0]["what"] == "lightly-train" and NOBODY in figures["skipped"][0]["why"]
    assert figures["time_to_the_same_auc"] == {}  # nothing is claimed that was not measured
    assert len((tmp_path / "out" / "runs.jsonl").read_text().splitlines()) == 1  # kept, for the same command to continue


def test_the_plain_loop_with_lightly_writes_weights_that_the_network_takes(photographs: Path, tmp_path: Path) -> None:
    small = ("--backbone", "test_resnet", "--size", "32", "--batch-size", "16", "--epochs", "1", "--threads", "1")
    run("lightly_loop.py", str(photographs), "--out", str(tmp_path / "weights.safetensors"), *small)
    account = timm.create_model("test_resnet", num_classes=0).load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert not account.missing_keys and not account.unexpected_keys


def test_fine_tuning_is_compared_with_the_plain_loop_and_the_bare_step(photographs: Path, tmp_path: Path) -> None:
    figures = result("peers_finetune.py", tmp_path, "--images", str(photographs))
    assert {row["way"] for row in figures["rates"]} == {"isograft", "plain loop", "bare step"}
    rate = {row["way"]: row["images_per_s"] for row in figures["rates"]}
    assert figures["times_plain_loop"]["fp32"] == pytest.approx(rate["isograft"] / rate["plain loop"], rel=0.01)
    assert [row["passes"] for row in figures["in_all"]] == [1, 10, 40]


def test_near_duplicates_are_found_and_a_missing_peer_is_named(tmp_path: Path) -> None:
    figures = result("peers_duplicates.py", tmp_path, "--peer-python", NOBODY)
    recall = {row["way"]: row for row in figures["recall"]}
    assert recall["by hash"]["mirrored"] == recall["by hash"]["turned by 90°"] == recall["audit"]["cropped by 5 %"] == 1
    assert recall["by hash"]["cropped by 10 %"] < 1  # what is not claimed can be missed: the measurement can fail
    assert figures["skipped"][0]["what"] == "imagededup PHash"


def test_memory_is_measured_for_every_number_of_images(tmp_path: Path) -> None:
    figures = result("memory.py", tmp_path, "--commands", "ingest")
    assert [(row["command"], row["images"]) for row in figures["peaks"]] == [("ingest", 24), ("ingest", 48)]
    assert all(row["peak_mb"] > 20 for row in figures["peaks"]) and figures["growth"][0]["to"] == 48


def test_growth_is_measured_stage_by_stage_and_a_stage_that_fails_is_named(tmp_path: Path) -> None:
    stages = ("ingest", "manifest opened", "first batch of an epoch")
    figures = result("growth.py", tmp_path, "--counts", "20", "--stages", *stages, codes=(1,))
    assert [row["stage"] for row in figures["stages"]] == list(stages)
    assert figures["stages"][1]["cpu_us_per_image"] > 0
    assert "cannot be filled from 20" in figures["failed"][0]["failed"]  # a batch is larger than that


def test_the_costs_of_a_large_pool_are_multiplied_from_measured_ones_and_asked_again_without_measuring(
    photographs: Path, tmp_path: Path
) -> None:
    figures = result("sizing.py", tmp_path, "--images", str(photographs), "--price", "this machine=2")
    assert all(cost > 0 for kind in ("bytes", "core_seconds") for cost in figures["per_image"][kind].values())
    (row,) = [row for row in figures["training"] if row["hardware"] == "this machine"]
    seconds = figures["per_image"]["networks"]["test_resnet"]["seconds"]
    assert row["hours"] == pytest.approx(10_000_000 * 100 * seconds / 3600, rel=0.01) and row["money"] == pytest.approx(
        2 * row["hours"], rel=0.01
    )
    earlier = tmp_path / "earlier.json"
    earlier.write_text(json.dumps(figures))
    again = result("sizing.py", tmp_path, "--measured", str(earlier), "--pool", "1000000", "--images", "/nowhere")
    assert again["per_image"] == figures["per_image"]
    assert again["storage"][0]["gb"] == pytest.approx(figures["storage"][0]["gb"] / 10, rel=0.01)


def test_how_far_the_looks_of_copies_lie_is_told_by_kind_and_bound(photographs: Path, tmp_path: Path) -> None:
    figures = result("look_distance.py", tmp_path, "--images", str(photographs))
    by_kind = {row["copies"]: row for row in figures["copies"]}
    assert by_kind["mirrored"][f"found within {figures['same_look']}"] == 1 and by_kind["mirrored"]["median"] < 10
    assert set(figures["pairs_of_different_groups"].values()) == {0}


def test_all_benchmarks_run_one_after_the_other_and_what_has_finished_is_kept(tmp_path: Path) -> None:
    command = ("run_all.py", "--quick", "--only", "intervals", "startup", "--work", str(tmp_path), "--peers", "/nobody")
    first = run(*command)
    assert "startup: startup.py, about" in first
    page = (tmp_path / "RESULTS.md").read_text()
    assert "Left out: lightly-train, because lightly-train is not installed (/nobody/lightly-train/bin/python does not exist)" in page
    assert "slowest median, s <= 0.7" in page and "`python benchmarks/startup.py --quick`" in page and "at the start" in page
    again = run(*command)
    assert "about" not in again and (tmp_path / "RESULTS.md").read_text().split("## Claims")[1] == page.split("## Claims")[1]


def test_the_throughput_benchmark_compares_the_whole_path_of_both_verbs_with_the_bare_step(photographs: Path, tmp_path: Path) -> None:
    found = result("throughput.py", tmp_path, "--images", str(photographs), "--threads", "1")
    assert [case["verb"] for case in found["cases"]] == ["pretrain", "finetune"]
    for case in found["cases"]:
        assert case["ratio"] == pytest.approx(case["pipeline_images_per_s"] / case["ready_images_per_s"], rel=0.02)
    assert found["least_ratio"] == {found["device"]: min(case["ratio"] for case in found["cases"])}


def test_the_benchmark_of_the_step_tells_arithmetic_peak_and_shares(tmp_path: Path) -> None:
    found = result("step.py", tmp_path)
    assert {row["network"] for row in found["steps"]} == {"test_resnet at 32 px", "test_vit at 32 px"}
    assert {"library", "dense", "products", "library, AdamW in parts"} == {row["kernels"] for row in found["steps"]}
    assert all(min(row["gflop_per_image"], row["peak_gflop_per_s"], row["of_peak"]) > 0 for row in found["steps"])
    assert all(sum(parts.values()) == pytest.approx(1, abs=0.01) for parts in found["shares"].values())
