"""The one output folder of a training, however many processes train: the first holds it, and the others know what it holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from isograft import console
from isograft.errors import IsograftError
from isograft.run import RunFolder, run_folder
from isograft.settings import TrainingSettings
from isograft.train.agreement import all_or_none, on_first
from isograft.train.launch import Ranks
from isograft.train.ranks import joined
from isograft.train.threads import computing_as_begun


@contextmanager
def training_run(settings: TrainingSettings) -> Iterator[RunFolder]:
    """Meet the other processes, open the output folder, and compute on the threads that the run began with.

    Raises:
        IsograftError: The folder cannot be used, or not every process sees it.
    """
    with joined() as ranks, _shared_run(settings.out, settings.fixed, settings.resume, ranks) as run, computing_as_begun(run):
        yield run


@contextmanager
def _shared_run(out: Path, settings: dict[str, Any], resume: bool, ranks: Ranks) -> Iterator[RunFolder]:
    """The output folder of a run, which the first process opens and locks, and in which it alone writes."""
    with ExitStack() as stack:
        opened: list[RunFolder] = []

        def take() -> list[Any]:
            opened.append(run := stack.enter_context(run_folder(out, settings, resume or _goes_on(out, ranks))))
            if ranks.launch:
                run.remember(launch=ranks.launch)
            return [run.resumed, run.record]

        resumed, record = on_first(take)
        run = opened[0] if opened else RunFolder(out, resumed, record, leads=False)
        hidden = IsograftError(f"process {ranks.rank} does not see --out {out}; put it on a file system that all machines share")
        all_or_none(None if (out / "run.json").is_file() else hidden)
        yield run


def _goes_on(out: Path, ranks: Ranks) -> bool:
    """Whether the launcher has started the very run in `out` again, which then goes on though nobody wrote --resume."""
    try:
        begun = json.loads((out / "run.json").read_bytes()) if ranks.restarted else {}
    except (OSError, ValueError):
        return False
    if not ranks.launch or begun.get("launch") != ranks.launch:
        return False
    console.say(f"{ranks.launcher} has started this run again: it goes on from its last saved state")
    return True
