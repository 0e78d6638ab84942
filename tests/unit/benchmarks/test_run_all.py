"""What the runner of the benchmarks says of its scripts, and the arithmetic that the scripts share."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def test_every_benchmark_that_the_readme_names_stands_in_the_list_of_claims(module):
    named = set(re.findall(r"benchmarks/(\w+\.py)", (ROOT / "README.md").read_text()))
    listed = {claim.script for claim in module("claims").CLAIMS}
    assert named and named <= listed


def test_every_claim_has_its_script_and_a_bound_on_its_time(module):
    claims = module("claims").CLAIMS
    assert len({claim.name for claim in claims}) == len(claims)
    for claim in claims:
        assert (ROOT / "benchmarks" / claim.script).exists()
        assert 0 < claim.minutes <= 480 and re.fullmatch(r"[a-z0-9-]+", claim.name)


def test_every_script_that_the_documentation_names_exists():
    for page in (ROOT / "docs").rglob("*.md"):
        for script in re.findall(r"benchmarks/(\w+\.py)", page.read_text()):
            assert (ROOT / "benchmarks" / script).exists(), f"{page.name} names {script}"


def test_of_several_figures_the_worst_counts(module):
    target = module("claims").Target
    found = {"times": {"a": 4.0, "b": 2.0}, "rows": [{"s": 1.0}, {"s": 9.0}, {}]}
    assert target("", ("times", "*"), ">=", 3.0).met(found) is False
    assert target("", ("times", "*"), ">=", 2.0).met(found) is True
    assert target("", ("rows", "*", "s"), "<=", 8.0).found(found) == 9.0
    assert target("", ("nothing", "*"), ">=", 1.0).met(found) is None  # not measured is neither met nor missed


def test_a_script_that_fails_is_named_with_its_reason_and_tried_again(module, monkeypatch, tmp_path):
    run_all, claims = module("run_all"), module("claims")
    script = tmp_path / "broken.py"
    script.write_text("raise SystemExit('the disk is gone')")
    target = claims.Target("speed", ("speed",), ">=", 1.0)
    monkeypatch.setattr(run_all, "CLAIMS", (claims.Claim("broken", str(script), "it works", (target,)),))
    wanted = ["--work", str(tmp_path), "--out", str(tmp_path)]
    assert run_all.main(wanted) == 1
    page = (tmp_path / "RESULTS.md").read_text()
    assert "**Failed**: ended with 1: the disk is gone" in page and "| **no**" not in page
    written = "import json, sys; json.dump({'speed': 2.0}, open(sys.argv[sys.argv.index('--json') + 1], 'w'))"
    script.write_text(written)
    assert run_all.main(wanted) == 0
    assert "| speed >= 1 | 2     | yes |" in (tmp_path / "RESULTS.md").read_text()


def test_ways_take_turns_and_the_first_round_does_not_count(module):
    harness, calls = module("harness"), []
    times = harness.take_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2)
    assert calls == ["a", "b"] * 3
    assert [len(one.wall) for one in times.values()] == [2, 2]


def test_a_result_is_told_as_lists_and_tables(module):
    told = module("harness").markdown({"images": 1200, "rows": [{"way": "a|b", "met": True}, {"way": "c", "met": None}]})
    assert told.splitlines()[0] == "- images: 1,200"
    assert "| way | met |" in told and "| a/b | yes |" in told and "| c   | –   |" in told


def test_the_time_to_an_auc_is_read_off_the_straight_lines_of_a_curve(module):
    seconds_to = module("peers_pretrain").seconds_to
    curve = [(10.0, 0.5), (30.0, 0.7), (20.0, 0.6)]
    assert seconds_to(curve, 0.65) == pytest.approx(25.0)
    assert seconds_to(curve, 0.4) == 10.0  # reached before anything was measured
    assert seconds_to(curve, 0.8) is None


def test_times_to_the_same_auc_are_compared_seed_by_seed_and_never_reached_is_no_number(module):
    compared = module("peers_pretrain").compared
    rows = [
        {"method": "simclr", "seed": 0, "tool": tool, "seconds": seconds, "auc": auc}
        for tool, curve in {"isograft": [(10, 0.6), (20, 0.8)], "lightly-train": [(60, 0.6), (120, 0.7)]}.items()
        for seconds, auc in curve
    ]
    found = compared(rows, "simclr")
    assert found["seeds"][0]["our_seconds"] == pytest.approx(15.0) and found["times_less_time"] == pytest.approx(8.0)
    behind = [{**row, "auc": 0.9} if row["tool"] == "lightly-train" and row["seconds"] == 120 else row for row in rows]
    assert compared(behind, "simclr")["times_less_time"] is None
    assert compared([row for row in rows if row["tool"] == "isograft"], "simclr") is None


def test_speed_and_memory_are_compared_with_views_of_one_size(module):
    rows = [
        {"method": method, "tool": tool, "images_per_s": rate, "peak_memory_mb": memory}
        for method, tool, rate, memory in [
            ("simclr", "isograft", 400.0, 900),
            ("simclr", "isograft, one size", 180.0, 800),
            ("simclr", "lightly-train", 100.0, 1600),
            ("dino", "isograft, one size", 90.0, 800),
        ]
    ]
    assert module("peers_pretrain").against_peer(rows) == {"simclr": {"times_images_per_s": 1.8, "times_memory": 0.5}}


def test_a_command_that_takes_too_long_is_ended_with_all_its_children(module):
    watching = module("watching")
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    with pytest.raises(watching.CommandError, match="more than it may take"):
        watching.watch([sys.executable, "-c", parent], limit=2.0)


def test_the_processes_of_a_command_are_found(module):
    watching = module("watching")
    process = subprocess.Popen(["sh", "-c", "cat; true"], stdin=subprocess.PIPE, start_new_session=True)
    try:
        until = time.monotonic() + 60
        while len(found := set(watching.tree(process.pid))) < 2 and time.monotonic() < until:
            os.sched_yield()
        assert process.pid in found and len(found) == 2
    finally:
        process.communicate(timeout=60)


def test_no_path_of_our_own_and_no_telemetry_reaches_a_peer(module, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/ours")
    env = module("peers").environment(FURTHER="1")
    assert "PYTHONPATH" not in env and env["LIGHTLY_TRAIN_EVENTS_DISABLED"] == "1" and env["FURTHER"] == "1"
