"""The output folder of a fetch: made after the agreement, locked, and continued by the same command."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from isograft.errors import IsograftError
from isograft.fetch.crew import Ledger
from isograft.locks import only_one
from isograft.run import write_atomic


class FetchFolder:
    """Where everything goes.

    Attributes:
        path: The folder of `--out`.
        images: The folder of the finished images.
        state: What only fetch itself needs: unfinished files, what was listed, what is finished.
        ledger: The finished files, named from `path`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.images = path / "images"
        self.state = path / ".fetch"
        self.ledger = Ledger(self.state / "files.jsonl", path)

    def part(self, name: str) -> Path:
        """Where a file grows until it is whole."""
        return self.state / f"{name}.part"

    def write_table(self, rows: Sequence[Mapping[str, str | None]]) -> None:
        """Write metadata.csv: one row per image, all cells text."""
        import polars as pl

        given = {name for row in rows for name in row}
        columns = [*(name for name in FIRST if name in given), *sorted(given.difference(FIRST))]
        frame = pl.DataFrame({name: [row.get(name) for row in rows] for name in columns}, schema=dict.fromkeys(columns, pl.String))
        write_atomic(self.path / "metadata.csv", frame.write_csv())


FIRST = ("file", "isic_id", "label", "group", "source", "split", "licence", "attribution")


def check_place(path: Path, request: dict[str, Any]) -> None:
    """Refuse a folder that holds anything but this same fetch.

    Raises:
        IsograftError: It does.
    """
    if path.exists() and not path.is_dir():
        raise IsograftError(f"fetch: --out {path} is a file; name a folder")
    if (path / ".fetch").is_symlink() or (path / "images").is_symlink():
        raise IsograftError(f"fetch: a folder in --out {path} is a link to elsewhere; choose another --out")
    note = path / ".fetch" / "request.json"
    if not note.exists():
        if path.exists() and any(entry.name != ".fetch" for entry in path.iterdir()):
            raise IsograftError(f"fetch: --out {path} exists already and holds no fetch; choose another --out")
        return
    try:
        before = json.loads(note.read_bytes())
    except (OSError, ValueError) as error:
        raise IsograftError(f"{note} cannot be read ({error}); choose another --out") from None
    if before != request:
        changed = [name for name in request if not isinstance(before, dict) or before.get(name) != request[name]]
        raise IsograftError(
            f"fetch: --out {path} holds a fetch with another {' and '.join(changed) or 'request'};"
            " repeat its command to go on with it, or choose another --out"
        )


@contextmanager
def opened(path: Path, request: dict[str, Any]) -> Iterator[FetchFolder]:
    """Make or go on with the folder, and hold its lock.

    Raises:
        IsograftError: It is in use, or cannot be made.
    """
    state = path / ".fetch"
    in_use = f"--out {path} is in use by another fetch; wait for it or choose another folder"
    lock = only_one(state / "lock", in_use, f"cannot create --out {path}")
    try:
        check_place(path, request)  # again, as it may have changed while the user was asked
        (path / "images").mkdir(exist_ok=True)
        write_atomic(state / "request.json", json.dumps(request, indent=2) + "\n")
        yield FetchFolder(path)
    finally:
        lock.release()
