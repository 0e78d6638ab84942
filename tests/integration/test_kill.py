"""SIGKILL at any moment: what goes on afterwards ends in the bytes of a run that was never disturbed, and leaves nothing else behind.

The moments are events of the run (writes, renames, fsyncs, deletions, training steps), drawn by `benchmarks/kill.py`, which goes on for
thousands of them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from isograft.run import run_folder

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "kill.py"
MOMENTS, SEED = 24, 0
STORIES = ("ingest", "pretrain", "finetune", "folds", "study", "predict")
PLACES = ("images-", "run.json", "last.ckpt", "model.json", "weights", "ledger", "done.json", "part-", "answers", "pool", "step")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the runs are forked, and their files told by /proc")


@pytest.fixture(scope="module")
def killed() -> list[dict[str, Any]]:
    """What became of every run that was killed."""
    words = [sys.executable, str(SCRIPT), "--moments", str(MOMENTS), "--seed", str(SEED)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=580, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.stdout, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert "moments" in lines[-1], done.stderr
    return [line for line in lines if "kind" in line]


@pytest.mark.parametrize("story", STORIES)
def test_a_killed_run_goes_on_to_the_bytes_of_one_never_disturbed_and_leaves_nothing_behind(
    story: str, killed: list[dict[str, Any]]
) -> None:
    mine = [one for one in killed if one["story"] == story]
    assert len(mine) >= 2
    assert [one for one in mine if one["problem"] is not None] == []


def test_runs_were_killed_while_each_kind_of_file_was_written(killed: list[dict[str, Any]]) -> None:
    assert len(killed) == MOMENTS
    assert [place for place in PLACES if not any(place in one["kind"] for one in killed)] == []
    assert any(one["killed_again"] for one in killed)


def test_a_difference_would_be_found(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("kill", SCRIPT)
    assert spec is not None and spec.loader is not None
    kill = importlib.util.module_from_spec(spec)
    sys.modules["kill"] = kill
    spec.loader.exec_module(kill)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "weights").write_bytes(b"1")
    (tmp_path / "run" / "done.json").write_text('{"rows": [{"auc": 0.5, "seconds": 3}]}')
    whole = kill.content(tmp_path)
    assert kill.different(whole, kill.content(tmp_path)) is None
    (tmp_path / "run" / "done.json").write_text('{"rows": [{"auc": 0.5, "seconds": 4}]}')
    assert kill.different(whole, kill.content(tmp_path)) is None, "the clock is no difference"
    (tmp_path / "run" / "weights").write_bytes(b"2")
    (tmp_path / "run" / "done.json").unlink()
    (tmp_path / "run" / ".x.tmp").write_bytes(b"half")
    assert kill.different(whole, kill.content(tmp_path)) == "missing: run/done.json; left behind: run/.x.tmp; other content: run/weights"


def test_the_lock_of_a_killed_run_is_free_and_its_empty_folder_taken_by_the_next(tmp_path: Path) -> None:
    out = tmp_path / "run"
    dies = "import os, signal, sys; from isograft import run; run.write_atomic = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
    dies += "from pathlib import Path\nwith run.run_folder(Path(sys.argv[1]), {}, False): pass"
    assert subprocess.run([sys.executable, "-c", dies, str(out)], check=False, timeout=120).returncode == -9
    assert [path.name for path in out.iterdir()] == [".lock"]
    with run_folder(out, {}, resume=False) as run:
        run.remember(step=1)
    assert [path.name for path in out.iterdir()] == ["run.json"]
