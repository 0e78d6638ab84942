import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from isograft.errors import IsograftError
from isograft.locks import only_one
from isograft.run import run_folder

LINUX_ERRORS = [0, errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="locks of Windows are always there")


def without_locks(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the file system have no locks of its own; 0 leaves it as it is."""

    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    if number:
        monkeypatch.setattr("fcntl.flock", flock)


@pytest.mark.parametrize("number", LINUX_ERRORS)
def test_a_second_run_is_refused_and_a_third_let_in_whether_the_file_system_has_locks_or_not(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    without_locks(monkeypatch, number)
    out = tmp_path / "run"
    with run_folder(out, {}, resume=False) as run:
        run.remember(step=1)
        with pytest.raises(IsograftError, match="in use by another run"), run_folder(out, {}, resume=True):
            pass
        (out / "checkpoints").mkdir()
        run.checkpoint.write_text("state")
    with run_folder(out, {}, resume=True) as again:
        assert again.record["step"] == 1
    assert sorted(path.name for path in out.iterdir()) == ["checkpoints", "run.json"]
    assert "flock" not in capfd.readouterr().err


@pytest.mark.parametrize("number", LINUX_ERRORS)
def test_the_lock_of_a_killed_run_is_free(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    dies = (
        "import fcntl, os, signal, sys\nfrom pathlib import Path\nfrom isograft.run import run_folder\n"
        "def flock(*_): raise OSError(int(sys.argv[2]), 'no locks')\n"
        "if int(sys.argv[2]): fcntl.flock = flock\n"
        "with run_folder(Path(sys.argv[1]), {}, False): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", dies, str(out), str(number)], check=False, timeout=120).returncode == -9
    assert (out / "run.json").is_file()
    without_locks(monkeypatch, number)
    with run_folder(out, {}, resume=True) as run:
        assert run.resumed


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(IsograftError, match=r"^no: Not a directory; choose a writable folder$"):
        only_one(tmp_path / "file" / "out" / ".lock", "in use", "no")
