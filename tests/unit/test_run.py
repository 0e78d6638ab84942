import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from isograft.errors import IsograftError
from isograft.run import RunFolder, run_folder, sync, write_atomic


def save_state(run: RunFolder) -> None:
    run.checkpoint.parent.mkdir()
    run.checkpoint.write_text("state")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_and_a_folder_can_be_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    waited: set[int] = set()
    monkeypatch.setattr("os.fsync", lambda descriptor: waited.add(os.fstat(descriptor).st_ino))
    for path in (tmp_path / "file", tmp_path):
        sync(path)
        assert path.stat().st_ino in waited
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "gone")


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
    with run_folder(out, {"seed": 0}, resume=False) as run:
        save_state(run)
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


def test_its_own_files_go_with_a_run_that_saved_no_state(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(ValueError), run_folder(out, {}, resume=False) as run:
        run.checkpoint.parent.mkdir()
        (out / "history.csv").write_text("step\n")
        raise ValueError("bad data")
    assert not out.exists()


def test_a_saved_state_outlives_the_failure(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(ValueError), run_folder(out, {}, resume=False) as run:
        save_state(run)
        raise ValueError("a bug")
    assert names(out) == ["checkpoints", "run.json"]


def test_a_file_of_someone_else_keeps_the_folder_whole(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(ValueError), run_folder(out, {}, resume=False):
        (out / "notes.txt").write_text("precious")
        raise ValueError("bad data")
    assert names(out) == ["notes.txt", "run.json"]


def test_a_folder_that_was_there_before_stays(tmp_path: Path) -> None:
    with pytest.raises(ValueError), run_folder(tmp_path, {}, resume=False):
        raise ValueError("bad data")
    assert tmp_path.is_dir()
    with run_folder(tmp_path, {}, resume=True) as run:
        assert run.resumed


@pytest.mark.parametrize("record", ["{", "[]", "{}", '{"settings": 3}', '{"settings": {}, "inputs": 3}', "\x00"])
def test_a_record_that_cannot_be_read_is_an_error_and_nothing_is_deleted(record: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(record)
    (tmp_path / "notes.txt").write_text("precious")
    with pytest.raises(IsograftError, match=r"run\.json .*start a new --out"), run_folder(tmp_path, {}, resume=True):
        pass
    assert names(tmp_path) == ["notes.txt", "run.json"]
    assert (tmp_path / "run.json").read_text() == record


def test_a_failed_resume_deletes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "run.json").write_text('{"settings": {"seed": 0}}')
    for seed in (1, 0):
        with pytest.raises((IsograftError, ValueError)), run_folder(out, {"seed": seed}, resume=True):
            raise ValueError("bad data")
        assert names(out) == ["run.json"]


def start_with_inputs(out: Path, **inputs: str) -> None:
    with run_folder(out, {}, resume=False) as run:
        run.check_inputs(**inputs)
        save_state(run)


def test_the_inputs_of_a_run_are_remembered_and_the_same_ones_resume(tmp_path: Path) -> None:
    out = tmp_path / "run"
    start_with_inputs(out, data="aa", init="scratch")
    assert json.loads((out / "run.json").read_text())["inputs"] == {"data": "aa", "init": "scratch"}
    with run_folder(out, {}, resume=True) as run:
        run.check_inputs(data="aa", init="scratch")


@pytest.mark.parametrize(
    ("now", "named"),
    [
        ({"data": "bb", "init": "scratch"}, "the data changed"),
        ({"data": "aa", "init": "other"}, "the starting weights changed"),
        ({"data": "bb", "init": "other"}, "the data and the starting weights changed"),
    ],
)
def test_resume_names_the_input_that_changed(now: dict[str, str], named: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    start_with_inputs(out, data="aa", init="scratch")
    before = (out / "run.json").read_bytes()
    expected = f"^{named} since the run in .* was started; start a new --out"
    with pytest.raises(IsograftError, match=expected), run_folder(out, {}, resume=True) as run:
        run.check_inputs(**now)
    assert (out / "run.json").read_bytes() == before
    assert (out / "checkpoints" / "last.ckpt").exists()


def test_a_run_stopped_before_it_read_its_inputs_remembers_them_on_resume(tmp_path: Path) -> None:
    out = tmp_path / "run"
    start_with_inputs(out)
    with run_folder(out, {}, resume=True) as run:
        run.check_inputs(data="aa")
    assert json.loads((out / "run.json").read_text())["inputs"] == {"data": "aa"}


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
