"""Finished rows on the disk while a run goes on: killed at any moment, it loses at most the rows since the last part.

The folder `.NAME.parts` lies beside the table that is being written. It holds what was asked (`asked.json`), the inputs as they were
(`inputs.parquet`), and one Parquet file per part, named by its first row. It is gone once the table is there.
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl

from isograft.errors import IsograftError
from isograft.inputs import Inputs
from isograft.leftovers import is_leftover, neighbour
from isograft.locks import only_one
from isograft.predictions import harmless, table_bytes
from isograft.run import sync, write_atomic

ROWS = 4096
SECONDS = 30.0
"""A part is written when it has so many rows, or after so long."""

_ASKED, _INPUTS, _PART = "asked.json", "inputs.parquet", "part-*.parquet"
_ROW_GROUP = 65_536


class Parts:
    """The rows of one run, in order.

    Attributes:
        path: The folder.
        rows: How many rows lie on the disk.
        asked: What was asked and decided; empty in a new run until `begin`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked: dict[str, Any] = _read(path / _ASKED)
        self.files = sorted(path.glob(_PART)) if self.asked else []
        self.rows = self._counted()
        self._waiting: list[pl.DataFrame] = []
        self._since = time.monotonic()

    def begin(self, inputs: Inputs, **asked: Any) -> None:
        """Note what is asked, or on resume require that it is the same.

        Args:
            inputs: The inputs as they are now.
            asked: JSON-ready.

        Raises:
            IsograftError: It is not what the run was started with.
        """
        now = _as_they_are(inputs)
        if self.asked:
            self._check(asked, now)
            return
        for stale in self.path.glob(_PART):  # of a run that was killed while it let its parts go
            stale.unlink()
        write_atomic(self.path / _INPUTS, table_bytes(now, self.path / _INPUTS))
        write_atomic(self.path / _ASKED, json.dumps(asked, indent=2, sort_keys=True) + "\n")
        self.asked = json.loads(json.dumps(asked))

    def add(self, table: pl.DataFrame) -> None:
        """Take finished rows, which follow those before."""
        self._waiting.append(table)
        if sum(map(len, self._waiting)) >= ROWS or time.monotonic() - self._since >= SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the rows that were taken as a part."""
        if self._waiting:
            table, name = pl.concat(self._waiting), self.path / f"part-{self.rows:012d}.parquet"
            write_atomic(name, table_bytes(table, name))
            sync(self.path)
            self.files.append(name)
            self.rows += len(table)
            self._waiting = []
        self._since = time.monotonic()

    def scan(self) -> pl.LazyFrame:
        """All rows that lie on the disk."""
        return pl.scan_parquet(self.files)

    def write(self, out: Path, table: pl.DataFrame | None = None) -> None:
        """Write the table, whole or not at all.

        Args:
            out: Where to.
            table: What to write [default: all rows, part by part; the bytes do not depend on where the parts end].

        Raises:
            IsograftError: The disk is full, or something else lies there meanwhile.
        """
        temporary = neighbour(out)
        try:
            if table is not None:
                temporary.write_bytes(table_bytes(table, out))
            elif out.suffix.lower() == ".csv":
                harmless(self.scan()).sink_csv(temporary)
            else:
                self.scan().sink_parquet(temporary, compression="zstd", row_group_size=_ROW_GROUP, maintain_order=True)
            if out.exists() and not filecmp.cmp(temporary, out, shallow=False):
                raise IsograftError(f"--out {out} is there already, and is not what this run gives; move it away, then add --resume")
            sync(temporary)
            temporary.replace(out)
            sync(out.parent)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise IsograftError(f"cannot write {out}: {error}; free some space, then repeat the command with --resume") from error
        finally:
            temporary.unlink(missing_ok=True)

    def remove(self) -> None:
        """Delete the folder: what it was asked first, so that what is left after a crash is no run to resume."""
        (self.path / _ASKED).unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)

    def _counted(self) -> int:
        rows = 0
        for file in self.files:
            if file.name != f"part-{rows:012d}.parquet":
                raise IsograftError(f"{file} does not follow the parts before it; delete {self.path} and start again")
            try:
                rows += pl.scan_parquet(file).select(pl.len()).collect().item()
            except (OSError, pl.exceptions.PolarsError) as error:
                raise IsograftError(f"{file} cannot be read ({error}); delete {self.path} and start again") from error
        return rows

    def _check(self, asked: dict[str, Any], now: pl.DataFrame) -> None:
        again = f"repeat the first command, or delete {self.path} and start again without --resume"
        before, told = _flat(self.asked), _flat(json.loads(json.dumps(asked)))
        changed = sorted(key for key in {*before, *told} if before.get(key) != told.get(key))
        if changed:
            listed = ", ".join(f"{key}: {before.get(key)!r} became {told.get(key)!r}" for key in changed)
            raise IsograftError(f"--resume continues a run unchanged, but {listed}; {again}")
        known = pl.read_parquet(self.path / _INPUTS)
        if known.equals(now):
            return
        if known.columns != now.columns or len(known) != len(now):
            raise IsograftError(f"--resume: the run was started with {len(known):,} inputs or other columns, now {len(now):,}; {again}")
        row = next(row for row in range(len(now)) if known.row(row) != now.row(row))
        raise IsograftError(f"--resume: {now['uri'][row]} changed since the run was started; {again}")


@contextmanager
def parts_beside(out: Path, resume: bool) -> Iterator[Parts]:
    """Open the folder of a run beside its table, and hold its lock until the end.

    Args:
        out: The table.
        resume: Continue an unfinished run.

    Raises:
        IsograftError: There is an unfinished run and it is not to be resumed, or none and it is; or it is in use.
    """
    path = out.with_name(f".{out.name}.parts")
    in_use = f"--out {out} is being written by another run; wait for it or choose another name"
    lock = only_one(path / ".lock", in_use, f"cannot write beside --out {out}")
    parts: Parts | None = None
    try:
        begun = (path / _ASKED).is_file()
        if begun and not resume:
            raise IsograftError(f"--out {out} was begun by an interrupted run; add --resume to continue it, or delete {path}")
        if resume and not begun:
            raise IsograftError(f"--out {out} has no interrupted run to resume; leave --resume out to start one")
        parts = Parts(path)
        yield parts
    finally:
        with suppress(OSError):  # while it is held, so that nobody holds a lock whose file is gone; Windows keeps the file
            (path / ".lock").unlink(missing_ok=True)
        lock.release()
        if not (path / _ASKED).is_file() or (not resume and parts is not None and not parts.rows):
            _remove_if_bare(path)


def _remove_if_bare(path: Path) -> None:
    """Leave nothing behind of a run without a finished row, or of one that was killed while it let its parts go.

    A folder with anything of another name stays.
    """
    begun = (path / _ASKED).is_file()
    with suppress(OSError):
        entries = list(path.iterdir())
        if all(entry.name in {_ASKED, _INPUTS} or is_leftover(entry) or (not begun and entry.match(_PART)) for entry in entries):
            for entry in entries:
                entry.unlink(missing_ok=True)
            path.rmdir()


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        asked = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise IsograftError(f"{path} cannot be read ({error}); delete {path.parent} and start again") from error
    if not isinstance(asked, dict) or not asked:
        raise IsograftError(f"{path} does not say what was asked; delete {path.parent} and start again")
    return asked


def _flat(asked: dict[str, Any]) -> dict[str, Any]:
    """What was asked, without the groups it is written in."""
    return {name: value for key, one in asked.items() for name, value in (one.items() if isinstance(one, dict) else [(key, one)])}


def _as_they_are(inputs: Inputs) -> pl.DataFrame:
    """What tells whether inputs changed: name, place (hashed: a URL may be a secret), size and time stamp, and a hash of all else."""
    states: dict[str, tuple[int | None, int | None]] = {}
    for place in inputs.places:
        if place is not None and place.file not in states:
            states[place.file] = (None, None) if place.remote else _state(place.file)
    kept = [(None, None) if place is None else states[place.file] for place in inputs.places]
    problems = [" ".join(inputs.problems.get(row, ())) for row in range(len(inputs.uris))]
    columns = {
        "uri": pl.Series(inputs.uris, dtype=pl.String),
        "place": pl.Series([None if place is None else _hashed(f"{place.file}\0{place.part}") for place in inputs.places], dtype=pl.String),
        "size": pl.Series([size for size, _ in kept], dtype=pl.Int64),
        "time": pl.Series([stamp for _, stamp in kept], dtype=pl.Int64),
        "problem": pl.Series(problems, dtype=pl.String),
    }
    if inputs.further.width:
        columns["further"] = pl.Series([_hashed(repr(row)) for row in inputs.further.iter_rows()], dtype=pl.String)
    return pl.DataFrame(columns)


def _state(file: str) -> tuple[int | None, int | None]:
    try:
        found = Path(file).stat()
    except OSError:
        return None, None
    return found.st_size, found.st_mtime_ns


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
