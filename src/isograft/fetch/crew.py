"""Fetch many files at a time, and remember across runs which of them are whole."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple, TypeVar

from isograft.errors import IsograftError
from isograft.fetch.client import Client, Refused, Unreachable
from isograft.fetch.download import Received
from isograft.seal import file_sha256

GIVE_UP = 10
"""Files in a row, each given up after all attempts, after which the server counts as down."""

T = TypeVar("T")


class Failure(NamedTuple):
    """A file that could not be had, and why."""

    name: str
    reason: str


class Ledger:
    """The finished files of a fetch, with size and SHA-256: one JSON line each, added when a file is in its place.

    Args:
        path: The file of lines; a last line that was cut off is passed over.
        folder: Where the files lie that are named in it.
    """

    def __init__(self, path: Path, folder: Path) -> None:
        self._path = path
        self._folder = folder
        self._lock = threading.Lock()
        self._known: dict[str, Received] = {}
        for line in read_lines(path):
            if isinstance(line, dict) and {"file", "size", "sha256"} <= line.keys():
                self._known[str(line["file"])] = Received(line["size"], line["sha256"])

    def holds(self, name: str) -> bool:
        """Whether a file was finished and still has the same bytes."""
        known, path = self._known.get(name), self._folder / name
        try:
            if known is None or path.stat().st_size != known.size:
                return False
            return file_sha256(path) == known.sha256
        except OSError:
            return False

    def add(self, name: str, received: Received) -> None:
        """Remember a finished file."""
        with self._lock:
            self._known[name] = received
            add_line(self._path, {"file": name, "size": received.size, "sha256": received.sha256})


def read_lines(path: Path) -> list[object]:
    """The JSON values of a file, one a line, without any that was cut off."""
    found: list[object] = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError):
            continue
    return found


def add_line(path: Path, value: object) -> None:
    """Add a JSON value as a line; one that was cut off before it is closed first."""
    try:
        with path.open("ab+") as stream:
            if stream.tell():
                stream.seek(-1, 2)
                cut = stream.read(1) != b"\n"
                stream.write(b"\n" if cut else b"")
            stream.write(json.dumps(value).encode() + b"\n")
    except OSError as error:
        raise IsograftError(f"cannot write {path}: {error.strerror or error}; free some space, and run fetch again") from None


def work_through(work: Callable[[T], None], items: Iterable[T], name: Callable[[T], str], client: Client, threads: int) -> list[Failure]:
    """Do `work` on every item, several at a time; items are taken only as fast as they are done.

    Returns:
        The items refused, in no fixed order.

    Raises:
        IsograftError: Ten items in a row could not be reached.
    """
    failures: list[Failure] = []
    waiting: dict[Future[None], T] = {}
    lost_in_row = 0

    def collect(most: int) -> None:
        nonlocal lost_in_row
        while len(waiting) > most:
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                item = waiting.pop(future)
                try:
                    future.result()
                    lost_in_row = 0
                except Refused as error:
                    failures.append(Failure(name(item), str(error)))
                    lost_in_row = lost_in_row + 1 if isinstance(error, Unreachable) else 0
                    if lost_in_row >= GIVE_UP:
                        raise IsograftError(
                            f"{lost_in_row} files in a row could not be fetched (the last: {error}); check the network,"
                            " and run the same command again to go on"
                        ) from None

    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting[pool.submit(work, item)] = item
                collect(4 * threads)
            collect(0)
        except BaseException:
            client.stop.set()  # threads in the middle of a file stop at its next bytes; what they have stays
            for future in waiting:
                future.cancel()
            raise
    return failures
