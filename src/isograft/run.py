"""The output folder of a long run: made once, locked, resumable, never half-finished in silence.

A run folder holds `run.json` (what was asked, what was decided, on which machine), `checkpoints/last.ckpt` and `history.csv`
while it runs. The model's files are written last, `model.json` as the very last: a folder without it is an unfinished run.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from isograft.errors import IsograftError
from isograft.leftovers import is_leftover, neighbour, remove_leftovers
from isograft.locks import SOFT, only_one

_PACKAGES = ("isograft", "torch", "timm", "pytorch-lightning", "numpy", "opencv-python-headless", "polars", "scikit-learn")
_OWN_NAMES = ("run.json", "history.csv")  # what a run writes before it has saved any state, besides the folder checkpoints
_LOCK = ".lock"
MEMBERS_FOLDER = "members"
"""Where the finished networks of a cross-validation wait for the others."""

_INPUTS = {"data": "the data", "init": "the starting weights", "study": "the study file", "jobs": "the images of the study"}


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file whole or not at all: temporary neighbour, fsync, rename.

    Raises:
        IsograftError: The disk is full or the folder is not writable; the old file, if any, is untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = neighbour(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise IsograftError(f"cannot write {path}: {error.strerror or error}; free some space or choose another --out") from error
    finally:
        with suppress(OSError):  # gone already after renaming; and no second error may hide the first
            temporary.unlink()


def sync(path: Path) -> None:
    """Wait until a file or folder lies on the disk; folders cannot be waited for everywhere."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        if path.is_dir():
            return
        raise
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def environment() -> dict[str, str]:
    """Return the software and machine a run used, for its record."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        **versions,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count()),
    }


@dataclass
class RunFolder:
    """A locked output folder.

    Attributes:
        path: The folder.
        resumed: Whether an interrupted run is being continued.
        record: What `run.json` holds: settings, environment, inputs and plan.
        leads: Whether this process writes: of several that train together, the first alone.
    """

    path: Path
    resumed: bool
    record: dict[str, Any] = field(default_factory=dict)
    leads: bool = True

    @property
    def checkpoint(self) -> Path:
        """The last saved state of the training."""
        return self.path / "checkpoints" / "last.ckpt"

    def remember(self, **entries: Any) -> None:
        """Add entries to `run.json`, atomically; names keep their order, since a model card tells them in it."""
        self.record.update(entries)
        if self.leads:
            write_atomic(self.path / "run.json", json.dumps(self.record, indent=2) + "\n")

    def check_inputs(self, **fingerprints: str) -> None:
        """Remember what a new run reads; on resume, require the same.

        Args:
            fingerprints: A hash or a description of each input by name, for example `data` and `init`.

        Raises:
            IsograftError: An input is not what the run was started with.
        """
        before: dict[str, str] = self.record.get("inputs", {})
        changed = [_INPUTS.get(name, f"the input {name}") for name, value in fingerprints.items() if before.get(name, value) != value]
        if changed:
            raise IsograftError(f"{' and '.join(changed)} changed since the run in {self.path} was started; start a new --out")
        if not fingerprints.keys() <= before.keys():
            self.remember(inputs={**before, **fingerprints})

    def finish(self) -> None:
        """Remove what only the running training needed."""
        for name in ("checkpoints", MEMBERS_FOLDER) if self.leads else ():
            shutil.rmtree(self.path / name, ignore_errors=True)


def can_resume(path: Path, settings: dict[str, Any]) -> bool:
    """Whether a folder holds the saved state of a run that was started with these settings."""
    try:
        run = RunFolder(path, True, _read_record(path, settings))
        return run.checkpoint.is_file() or (path / MEMBERS_FOLDER).is_dir()
    except IsograftError:
        return False


@contextmanager
def run_folder(path: Path, settings: dict[str, Any], resume: bool) -> Iterator[RunFolder]:
    """Open the output folder of a run and hold its lock until the end.

    Args:
        path: The folder; new unless `resume`.
        settings: What was asked, JSON-ready; on resume it must equal what the run started with.
        resume: Continue the run in `path`.

    Raises:
        IsograftError: The folder exists already, is in use, holds no readable run, or was started with other settings.
    """
    _check_place(path, resume)
    created = not resume and not path.exists()
    lock = only_one(
        path / _LOCK,
        f"--out {path} is in use by another run; wait for it or choose another folder",
        f"cannot create --out {path}",
    )
    try:
        _check_place(path, resume)  # again: another run may have come and gone before the lock was ours
        remove_leftovers(path)
        run = RunFolder(path, resume)
        if resume:
            run.record = _read_record(path, settings)
        else:
            run.remember(settings=settings, environment=environment())
        yield run
    finally:
        with suppress(OSError):  # while it is held, so that nobody holds a lock whose file is gone; Windows keeps the file
            (path / _LOCK).unlink(missing_ok=True)
        lock.release()
        if created:
            _remove_if_bare(path)


def _check_place(path: Path, resume: bool) -> None:
    """Refuse a folder with anything in it to a new run, and one without a run to a resumed one.

    What a run leaves that was killed before it had written its record is nothing: it is no run to resume.
    """
    if not resume and path.exists() and (not path.is_dir() or any(map(_counts, path.iterdir()))):
        unfinished = "" if (path / "model.json").exists() else ", or add --resume to continue an interrupted run"
        raise IsograftError(f"--out {path} already exists; choose another --out{unfinished}")
    if resume and not (path / "run.json").is_file():
        raise IsograftError(f"--out {path} holds no interrupted run to resume; leave --resume out to start one")


def _counts(entry: Path) -> bool:
    """Whether something in a folder is more than what is left of a process that was killed at once."""
    return entry.name not in (_LOCK, _LOCK + SOFT) and not is_leftover(entry)


def _read_record(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    file = path / "run.json"
    try:
        record = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise IsograftError(f"{file} cannot be read ({error}); --resume needs it whole: restore it, or start a new --out") from error
    if not isinstance(record, dict) or not isinstance(record.get("settings"), dict) or not isinstance(record.get("inputs", {}), dict):
        raise IsograftError(f"{file} does not say with which settings its run was started; restore it, or start a new --out")
    before = record["settings"]
    changed = sorted(key for key in {*before, *settings} if before.get(key) != settings.get(key))
    if changed:
        listed = ", ".join(f"{key}: {before.get(key)!r} became {settings.get(key)!r}" for key in changed)
        raise IsograftError(f"--resume continues the run in {path} unchanged, but {listed}; repeat the first command, or start a new --out")
    return record


def _remove_if_bare(path: Path) -> None:
    """Leave nothing behind when a run failed before it saved any state.

    Only files of known name go, and only when the folder holds nothing else; otherwise it stays whole, to be resumed or looked at.
    """
    checkpoints = path / "checkpoints"
    with suppress(OSError):
        if checkpoints.is_dir():
            checkpoints.rmdir()  # fails when a state is inside
        if all(entry.name in _OWN_NAMES and entry.is_file() for entry in path.iterdir()):
            for name in _OWN_NAMES:
                (path / name).unlink(missing_ok=True)
            path.rmdir()


def require_free(out: Path, option: str = "--out") -> None:
    """Refuse an output folder in which something lies already.

    Raises:
        IsograftError: Something does, or it is a file.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise IsograftError(f"{option} {out} already exists; delete it or choose another folder")


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder that appears under its name complete or not at all: written beside, then renamed."""
    partial = neighbour(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
        yield partial
        partial.rename(out)
    except OSError as error:
        raise IsograftError(f"cannot write {out}: {error.strerror or error}; free some space or choose another --out") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
