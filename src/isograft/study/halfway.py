"""Jobs that were broken off: a training goes on from its last saved state, and its time is counted in full; anything else starts anew."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import suppress
from pathlib import Path

from isograft.study.places import BEGUN, JOBS_FOLDER, MODEL, PARTIAL

CLOCK_FILE = "clock.json"
_STATE = f"{MODEL}/checkpoints/last.ckpt"


def keep_states(folder: Path) -> None:
    """Put the trainings that were broken off where their jobs will look for them, and remove all else that was left half-done.

    Args:
        folder: The study's folder; its lock says that none of its jobs still runs.
    """
    jobs = folder / JOBS_FOLDER
    for path in sorted(jobs.glob(f"*{PARTIAL}*"), key=_saved_at):
        if _saved_at(path):
            begun = path.with_name(path.name.partition(PARTIAL)[0] + BEGUN)
            shutil.rmtree(begun, ignore_errors=True)
            path.rename(begun)
    remove_leftovers(folder, states=False)


def remove_leftovers(folder: Path, states: bool = True) -> None:
    """Remove what was left half-done.

    Args:
        folder: The study's folder.
        states: Whether the trainings that wait to be taken up again go, too.
    """
    for mark in (f"*{PARTIAL}*", *[f"*{BEGUN}"] * states):
        for path in (folder / JOBS_FOLDER).glob(mark):
            shutil.rmtree(path, ignore_errors=True)


def begin(place: Path, partial: Path) -> float:
    """Make the folder of a job that begins, or take up the one of a training that was broken off.

    Args:
        place: The job's folder once it is finished.
        partial: Its folder until then.

    Returns:
        Seconds that were spent on it before, up to its last saved state.
    """
    partial.parent.mkdir(parents=True, exist_ok=True)
    spent = 0.0
    with suppress(OSError):
        place.with_name(place.name + BEGUN).rename(partial)
        spent = _spent(partial)
    partial.mkdir(exist_ok=True)
    (partial / CLOCK_FILE).write_text(json.dumps({"spent": spent, "began": time.time()}), encoding="utf-8")
    return spent


def remove_unless_saved(partial: Path) -> None:
    """Remove what a job left that could not go on, but not the saved state of a training: `--resume` takes it up."""
    if not _saved_at(partial):
        shutil.rmtree(partial, ignore_errors=True)


def _saved_at(path: Path) -> float:
    """When the state of a training was saved last, in seconds since 1970; 0 where none was."""
    with suppress(OSError):
        return (path / _STATE).stat().st_mtime
    return 0.0


def _spent(path: Path) -> float:
    with suppress(OSError, ValueError, KeyError, TypeError):
        clock = json.loads((path / CLOCK_FILE).read_bytes())
        return float(clock["spent"]) + max(0.0, _saved_at(path) - float(clock["began"]))
    return 0.0
