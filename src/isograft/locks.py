"""One process at a time: locks on what is being written."""

from __future__ import annotations

import errno
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from isograft.errors import IsograftError

if TYPE_CHECKING:
    from filelock import BaseFileLock

SOFT = ".held"
"""Ending of the file that stands for a lock where the file system has none."""

_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)  # some network file systems


def only_one(lock: Path, in_use: str, refused: str, remedy: str = "choose a writable folder") -> BaseFileLock:
    """Take a lock at once, or say who has it; the folder it lies in is made.

    Args:
        lock: The file that is locked.
        in_use: What to say when another process has it.
        refused: What to say, before the system's reason, when it cannot be made.
        remedy: What to do then.

    Returns:
        The lock, held until it is released.

    Raises:
        IsograftError: It is in use, or cannot be made.
    """
    from filelock import Timeout

    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        taken = _acquired(lock)
    except Timeout as error:
        raise IsograftError(in_use) from error
    except OSError as error:
        raise IsograftError(f"{refused}: {error.strerror or error}; {remedy}") from error
    return taken


def _acquired(lock: Path) -> BaseFileLock:
    """The system's own lock, or where the file system has none a file that names machine and process.

    The file lies beside: the one that the system would not lock cannot be told from one that another process has just made.
    """
    from filelock import FileLock, SoftFileLock

    taken: BaseFileLock = FileLock(lock)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it falls back by itself where the system does not even know the call, and says so
            taken.acquire(timeout=0)
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        taken = SoftFileLock(lock.with_name(lock.name + SOFT))
        taken.acquire(timeout=0)
    return taken
