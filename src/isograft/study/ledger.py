"""What every finished job took: one line of JSON each, appended and synced, so that a kill loses nothing that was finished."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from isograft.study.places import LEDGER_FILE


def read_entries(path: Path) -> list[dict[str, Any]]:
    """The lines of a ledger, none where there is no such file; one that was cut off by a kill counts as not written, as its job does."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            entry = json.loads(line)
            found.append({**entry, "key": str(entry["key"])})
        except (ValueError, KeyError, TypeError):
            continue
    return found


class Ledger:
    """The file `ledger.jsonl` of a study.

    A job that made runs has a line for each of them, under the run's name in results.parquet and with an equal part of the time, since
    runs that share one pass of features cannot be told apart by the clock.

    Args:
        folder: The study's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LEDGER_FILE
        self._known = {entry["key"] for entry in read_entries(self.path)}

    def record(self, done: Mapping[str, Any]) -> None:
        """Append what a job's done.json says, unless it stands here already."""
        lines = [entry for entry in _lines(done) if entry["key"] not in self._known]
        if not lines:
            return
        with self.path.open("a", encoding="utf-8") as stream:
            stream.truncate(self._whole_bytes())
            stream.write("".join(json.dumps(entry, sort_keys=True) + "\n" for entry in lines))
            stream.flush()
            os.fsync(stream.fileno())
        self._known |= {entry["key"] for entry in lines}

    def _whole_bytes(self) -> int:
        """Where the last whole line ends: a kill may have cut one off."""
        return self.path.read_bytes().rfind(b"\n") + 1


def _lines(done: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    common = {name: done[name] for name in ("name", "kind", "started", "finished")} | {"parents": list(done["parents"])}
    rows = done["rows"]
    if not rows:
        return [{"key": done["key"], **common, "seconds": done["seconds"], "images_seen": done["images_seen"]}]
    share = done["seconds"] / len(rows)
    return [{"key": row["job"], **common, "seconds": share, "images_seen": row["finetune_images_seen"]} for row in rows]
