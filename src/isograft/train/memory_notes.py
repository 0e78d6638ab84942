"""What a process that had not enough memory leaves for the next start of its training: in which step, and how many images would do.

Of several processes the others wait in the middle of the step, so that it cannot be repeated as one process does by itself. All end; when
they are started again, by hand or by their launcher, they go on from the last saved state and know of it.
"""

from __future__ import annotations

import json
from pathlib import Path

from isograft.run import write_atomic
from isograft.ssl.gather import rank
from isograft.train import agreement
from isograft.train.course import MICRO_BATCH, Course


def leave_note(course: Course, step: int, micro: int) -> None:
    """Say that from a step on the network of every process is to see so many images at a time."""
    if course.run is not None:
        write_atomic(_folder(course) / f"memory{course.which}-{rank()}.json", json.dumps([step, micro]))


def take_note(course: Course) -> None:
    """Make the change that a note asks for in the plan of all processes, and remove the note."""
    if course.run is None:
        return
    for step, micro in agreement.on_first(lambda: _read(course)):
        told = f"memory was full at step {step} before: from there on the network sees {micro} of a process's pictures at a time"
        course.change(MICRO_BATCH, step, micro, told)
    agreement.on_first(lambda: _remove(course))


def _read(course: Course) -> list[list[int]]:
    """The change that the notes ask for, if there are any: from the first step that they name, for the least memory."""
    notes = [json.loads(path.read_bytes()) for path in _notes(course)]
    return [[min(step for step, _ in notes), min(micro for _, micro in notes)]] if notes else []


def _remove(course: Course) -> None:
    for path in _notes(course):
        path.unlink()


def _notes(course: Course) -> list[Path]:
    return sorted(_folder(course).glob(f"memory{course.which}-*.json"))


def _folder(course: Course) -> Path:
    assert course.run is not None  # noqa: S101  (asked by the caller)
    return course.run.path / "checkpoints"
