import errno
import json
from pathlib import Path
from typing import Any

import pytest

from isograft.errors import IsograftError
from isograft.run import run_folder, write_atomic


def test_an_existing_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("precious")
    with pytest.raises(IsograftError, match="already exists; choose another --out"), run_folder(tmp_path, {}, resume=False):
        pass
    assert (tmp_path / "kept.txt").read_text() == "precious"


def test_an_existing_file_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("x")
    with pytest.raises(IsograftError, match="already exists"), run_folder(target, {}, resume=False):
        pass


def test_two_runs_cannot_share_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with run_folder(out, {}, resume=False) as run:
        run.remember(step=1)
        with pytest.raises(IsograftError, match="in use by another run"), run_folder(out, {}, resume=True):
            pass


def test_resume_refuses_other_settings_and_names_them(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with run_folder(out, {"seed": 0}, resume=False):
        (out / "history.csv").write_text("step\n")
    with pytest.raises(IsograftError, match="seed: 0 became 1"), run_folder(out, {"seed": 1}, resume=True):
        pass
    assert json.loads((out / "run.json").read_text())["settings"] == {"seed": 0}


def test_resume_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IsograftError, match="no interrupted run"), run_folder(tmp_path / "none", {}, resume=True):
        pass


def test_a_run_that_failed_before_it_saved_anything_leaves_no_folder(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(ValueError), run_folder(out, {}, resume=False):
        raise ValueError("bad data")
    assert not out.exists()


def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "figures.json"
    write_atomic(target, "old")

    def no_room(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("isograft.run.os.fsync", no_room)
    with pytest.raises(IsograftError, match=r"cannot write .*No space left on device"):
        write_atomic(target, "new")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]


def test_what_a_run_remembers_is_on_disk_at_once(tmp_path: Path) -> None:
    out = tmp_path / "run"
    found: dict[str, Any] = {}
    with run_folder(out, {"seed": 3}, resume=False) as run:
        run.remember(plan=[{"name": "lr", "value": 0.1, "reason": "test"}])
        found = json.loads((out / "run.json").read_text())
    assert found["settings"] == {"seed": 3}
    assert found["plan"][0]["value"] == 0.1
    assert "python" in found["environment"]
