import json
from pathlib import Path
from typing import Any

import pytest

from isograft.study.ledger import Ledger, read_entries
from isograft.study.places import LEDGER_FILE

TIMES = {"started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T00:00:06+00:00", "seconds": 6.0}


def done(key: str, rows: int = 0) -> dict[str, Any]:
    runs = [{"job": f"{key}/10-{repeat}", "finetune_images_seen": 100 + repeat} for repeat in range(rows)]
    kind = "probes" if rows else "pretrain"
    return {"key": key, "kind": kind, "name": key, "parents": ["p"], **TIMES, "images_seen": 50, "rows": runs}


def test_a_job_without_runs_has_one_line(tmp_path: Path) -> None:
    Ledger(tmp_path).record(done("a"))
    assert read_entries(tmp_path / LEDGER_FILE) == [
        {"key": "a", "kind": "pretrain", "name": "a", "parents": ["p"], **TIMES, "images_seen": 50}
    ]


def test_the_runs_of_a_job_share_its_time(tmp_path: Path) -> None:
    Ledger(tmp_path).record(done("a", rows=3))
    entries = read_entries(tmp_path / LEDGER_FILE)
    assert [entry["key"] for entry in entries] == ["a/10-0", "a/10-1", "a/10-2"]
    assert sum(entry["seconds"] for entry in entries) == pytest.approx(6.0)
    assert [entry["images_seen"] for entry in entries] == [100, 101, 102]


def test_a_job_is_recorded_once_however_often_a_study_is_resumed(tmp_path: Path) -> None:
    for _ in range(3):
        Ledger(tmp_path).record(done("a", rows=2))
        Ledger(tmp_path).record(done("b"))
    assert [entry["key"] for entry in read_entries(tmp_path / LEDGER_FILE)] == ["a/10-0", "a/10-1", "b"]


@pytest.mark.parametrize("kept", range(1, 60, 7))
def test_a_line_cut_off_by_a_kill_is_written_again_and_spoils_no_other(kept: int, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.record(done("a"))
    whole = ledger.path.read_bytes()
    ledger.record(done("b"))
    second = ledger.path.read_bytes()[len(whole) :]
    (tmp_path / LEDGER_FILE).write_bytes(whole + second[:kept])
    again = Ledger(tmp_path)
    again.record(done("b"))
    again.record(done("c"))
    assert [entry["key"] for entry in read_entries(tmp_path / LEDGER_FILE)] == ["a", "b", "c"]
    assert all(json.loads(line) for line in (tmp_path / LEDGER_FILE).read_text().splitlines() if line.endswith("}"))
