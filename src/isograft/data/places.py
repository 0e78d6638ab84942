"""Where the images of a model's split lie: the one thing a model folder knows about the machine, kept in run.json alone.

`split.parquet` names its images from one folder, and so says nothing about the machine. Which folder that is stands in `run.json`, the
local record of the run, twice: as an absolute path, and as seen from the model folder, so that both folders can be moved together.
"""

# ruff: noqa: PTH100
# Links stay as the user wrote them (Path.resolve follows them).

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

SPLIT_FILE = "split.parquet"
RECORD_FILE = "run.json"
CASES_FILE = "cases.parquet"
CASE_EMBEDDINGS_FILE = "cases.safetensors"
HELD_OUT_FILE = "held_out.parquet"
THUMBNAILS_FILE = "cases_thumbnails.parquet"
SPARED_FILES = (SPLIT_FILE, CASES_FILE, CASE_EMBEDDINGS_FILE, HELD_OUT_FILE, THUMBNAILS_FILE)
"""What may be left out when a model folder is handed on, as it tells of single images."""


def short_name(path: Path) -> str:
    """The last part of a path, of `.` too: what outputs call a file or folder, since where it lies is no one's business."""
    return Path(os.path.abspath(path)).name


def describe_place(folder: Path, model_folder: Path) -> dict[str, str]:
    """What run.json keeps, as `images`, of the folder that the uris of split.parquet start at."""
    there, here = os.path.abspath(folder), os.path.abspath(model_folder)
    if os.path.splitdrive(there)[0] != os.path.splitdrive(here)[0]:
        return {"folder": there}
    return {"folder": there, "from_here": Path(os.path.relpath(there, here)).as_posix()}


def image_folders(manifest: Path) -> list[Path]:
    """Where the relative uris of a manifest may start, the likeliest first: its own folder.

    For the split.parquet of a model folder it is the folder of the images as seen from there, then as it was on the machine of the
    run; its own again when run.json is not there.
    """
    if manifest.name == SPLIT_FILE:
        with suppress(OSError, ValueError, KeyError, TypeError):
            place: dict[str, str] = json.loads((manifest.parent / RECORD_FILE).read_bytes())["images"]
            return [*(manifest.parent / place[name] for name in ("from_here",) if name in place), Path(place["folder"])]
    return [manifest.parent]
