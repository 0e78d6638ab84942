"""Where things wait beside their place until they are whole, and the removal of what processes left there that were killed.

A temporary neighbour of `NAME` is called `.NAME.HOST-PID-N.tmp`. Whoever writes into a folder for the first time removes those whose
process is gone; of another machine's processes that cannot be known, so theirs go when they are a day old.
"""

from __future__ import annotations

import itertools
import os
import platform
import re
import shutil
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

SUFFIX = ".tmp"
STALE_SECONDS = 24 * 3600

_NAME = re.compile(r"\..+\.(\w{1,32})-(\d{1,10})-\d+\.tmp")
_LIKE = re.compile(r"\..+\.(\w{1,32}-\d{1,10}-)?\d+\.tmp")  # a state that is being saved is called by the process alone
_numbers = itertools.count()
_swept: set[tuple[int, str]] = set()
_lock = threading.Lock()


def neighbour(path: Path) -> Path:
    """Where a file or folder is to be made before it is renamed to `path`; what killed processes left in that folder is removed first."""
    place = (os.getpid(), os.path.abspath(path.parent))  # noqa: PTH100  (links stay as they are)
    with _lock:
        if place not in _swept:
            _swept.add(place)
            _sweep(path.parent)
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}-{next(_numbers)}{SUFFIX}")


def remove_leftovers(folder: Path) -> None:
    """Remove every temporary neighbour in a folder, however deep, that only the caller writes to, as it holds its lock."""
    for path in folder.rglob(f".*{SUFFIX}"):
        if is_leftover(path):
            _remove(path)


def is_leftover(path: Path) -> bool:
    """Whether a name is that of a temporary neighbour."""
    return _LIKE.fullmatch(path.name) is not None


def _host() -> str:
    return re.sub(r"\W+", "_", platform.node(), flags=re.ASCII)[:32] or "host"


def _sweep(folder: Path) -> None:
    """Remove temporary neighbours whose process is gone. Nothing is written here yet, so those of our own number are another's."""
    with suppress(OSError):
        for entry in os.scandir(folder):
            found = _NAME.fullmatch(entry.name)
            if found and _is_gone(found[1], int(found[2]), entry):
                _remove(Path(entry.path))


def _is_gone(host: str, process: int, entry: os.DirEntry[str]) -> bool:
    if host != _host() or sys.platform == "win32":  # where asking for a process would end it
        with suppress(OSError):
            return time.time() - entry.stat(follow_symlinks=False).st_mtime > STALE_SECONDS
        return False
    if process == os.getpid():
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
