"""One process at a time: locks on what is being written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from isograft.errors import IsograftError

if TYPE_CHECKING:
    from filelock import BaseFileLock


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
    from filelock import FileLock, Timeout

    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        taken = FileLock(lock)
        taken.acquire(timeout=0)
    except Timeout as error:
        raise IsograftError(in_use) from error
    except OSError as error:
        raise IsograftError(f"{refused}: {error.strerror or error}; {remedy}") from error
    return taken
