"""Kills isograft at drawn moments with SIGKILL, lets it go on, and compares every byte with a run that was never disturbed.

A moment is an event, not a time: before a file is opened for writing, half-way through a write, before an fsync, a rename, a deletion or
a training step. The undisturbed run counts its events; the numbers of those that kill are drawn from a seeded generator, first the kind
of event, then which of that kind, so that rare ones are met as often as common ones. Every third run is killed once more while it goes
on. What runs is the command line itself, in a process and process group of its own, forked from one that has loaded the libraries and
computed nothing. Prints a line of JSON per moment, and at the end how many differed. Torch computes on one thread.

    python benchmarks/kill.py --moments 1000 --seed 1
    python benchmarks/kill.py --moments 200 --seed 2 --story study
    python benchmarks/kill.py --story folds --list
"""

from __future__ import annotations

import argparse
import builtins
import csv
import io
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

PATIENCE = 600  # seconds after which a run counts as hanging
SMALL = ["--backbone", "test_resnet", "--image-size", "32", "--threads", "1", "--precision", "fp32"]
FINETUNE = ("finetune", "WORK/images", "--out", "OUT/run", "--init", "scratch", "--cache-dir", "OUT/cache")
CLASSES, EACH = ("spot", "stripes"), 10

TIMES = {"started", "finished", "seconds", "created", "run_seconds", "before_seconds", "total_seconds"}
"""Names of wall-clock values in JSON files."""
OF_THE_CLOCK = ("history.csv", "README.md", "model.json")
"""Files of a model folder with wall-clock values in them, which are compared without these; so their hashes differ."""
UNCOMPARED = re.compile(r"(^|/)logs/|(^|/)report\.(html|md)$")
"""Files that tell of the clock or of how often a run was begun; that they are there is compared, what they say is not."""


@dataclass(frozen=True)
class Story:
    """A command that is killed.

    Attributes:
        name: What it is called here.
        words: The command line, where OUT is the folder of the attempt and WORK the folder with the data.
        resumable: Whether the verb has --resume; otherwise the command is repeated.
        musts: Patterns of events that are killed at in any case, however few moments there are.
    """

    name: str
    words: tuple[str, ...]
    resumable: bool = True
    musts: tuple[str, ...] = ()


STORIES = (
    Story("ingest", ("ingest", "WORK/images", "--out", "OUT/pool.parquet", "--threads", "1"), False, ("half .*pool", "replace .*pool")),
    Story(
        "pretrain",
        ("pretrain", "WORK/images", "--out", "OUT/run", "--cache-dir", "OUT/cache", "--epochs", "4", "--batch-size", "8", *SMALL),
        True,
        ("half .*images-", "half .*run.json", "half .*last.ckpt", "replace .*last.ckpt", "replace .*model.json"),
    ),
    Story(
        "finetune",
        (*FINETUNE, "--epochs", "6", "--val-fraction", "0.3", *SMALL),
        True,
        ("step ", "half .*model.safetensors"),
    ),
    Story(
        "folds",
        (*FINETUNE, "--epochs", "4", "--folds", "2", "--strategy", "full", *SMALL),
        True,
        ("replace .*weights.safetensors", "unlink .*last.ckpt"),
    ),
    Story(
        "study",
        ("study", "WORK/study.yaml", "--out", "OUT/study", "--cache-dir", "OUT/cache", "--jobs", "1"),
        True,
        ("half .*ledger", "rename .*partial", "half .*done.json", "step "),
    ),
    Story(
        "predict",
        ("predict", "WORK/model", "WORK/images", "--out", "OUT/answers.parquet", "--engine", "torch", "--threads", "1"),
        True,
        ("half .*part-", "replace .*answers", "unlink .*asked"),
    ),
)

STUDY = """
title: Synthetic blobs
seed: 3
repeats: 1
labels_per_class: [3]
test_fraction: 0.4
backbones: [test_resnet]
image_size: 32
pools:
  blobs: {data: WORK/images}
tasks:
  kinds: {data: WORK/task}
arms:
  scratch: [scratch]
  pool: [scratch, pool:blobs]
pretrain: {method: simclr, epochs: 2, batch_size: 8}
finetune: {strategy: full, epochs: 2}
"""


# What happens in the process that is killed.


@dataclass
class Moments:
    """Counts what a run does below a folder, and kills it at one of these events.

    Attributes:
        below: Only files below this folder count.
        fatal: Number of the event that kills, from 1; None to count only.
        log: Where the events are written to, a line each.
    """

    below: str
    fatal: int | None
    log: io.TextIOBase | None = None
    count: int = 0
    _lock: Any = field(default_factory=threading.Lock)

    def meet(self, kind: str, path: Any, half: Callable[[], Any] | None = None) -> None:
        """Count an event; at the fatal one do half of it, if it can be halved, and die."""
        name = _text(path)
        if name is not None and not name.startswith(self.below):
            return
        with self._lock:
            self.count += 1
            if self.log is not None:
                self.log.write(f"{kind} {_kind_of(name or '')}\n")
            if self.count != self.fatal:
                return
            if half is not None:
                half()
            os.killpg(0, signal.SIGKILL)
            time.sleep(PATIENCE)  # until it arrives


def _text(path: Any) -> str | None:
    """The absolute path of what a call of `os` was given; of a name beside an open folder as good as can be told."""
    if path is None:
        return None
    if isinstance(path, int):
        return str(Path(f"/proc/self/fd/{path}").readlink())
    return str(Path(os.fsdecode(os.fspath(path))).absolute())


def _kind_of(name: str) -> str:
    """A path without what differs from run to run."""
    return re.sub(r"[0-9a-f]{12,}|\d+", "#", name.rpartition("/")[2].replace(os.uname().nodename, "HOST"))


def plant(moments: Moments) -> None:
    """Have this process meet its moments from now on."""
    for name in ("replace", "rename", "unlink", "remove", "mkdir", "rmdir"):
        _wrap_call(moments, os, name)
    fsync = os.fsync
    os.fsync = lambda fd: (moments.meet("fsync", fd), fsync(fd))[1]  # type: ignore[assignment]
    _wrap_open(moments)
    _wrap_writers(moments)
    _wrap_steps(moments)


def _wrap_call(moments: Moments, owner: Any, name: str) -> None:
    real = getattr(owner, name)

    def call(path: Any, *rest: Any, **named: Any) -> Any:
        folder = named.get("dir_fd")
        place = path if folder is None else Path(f"/proc/self/fd/{folder}").readlink() / os.fspath(path)
        moments.meet(name, place)
        return real(path, *rest, **named)

    setattr(owner, name, call)


class _Halved(io.BufferedWriter):
    """A file whose writes are moments: the fatal one leaves half of its bytes."""

    def __init__(self, raw: io.FileIO, moments: Moments, path: str) -> None:
        super().__init__(raw)
        self._moments, self._path = moments, path

    def write(self, data: Any) -> int:
        whole = bytes(data)

        def half() -> None:
            super(_Halved, self).write(whole[: len(whole) // 2])
            self.flush()

        self._moments.meet("half", self._path, half)
        return super().write(whole)


def _wrap_open(moments: Moments) -> None:
    real = io.open

    def opened(file: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, errors: Any = None, newline: Any = None, **more: Any):
        path = None if isinstance(file, int) else _text(file)
        if path is None or not path.startswith(moments.below) or not set(mode) & set("wax") or "+" in mode:
            return real(file, mode, buffering, encoding, errors, newline, **more)
        moments.meet("open", path)
        stream = _Halved(io.FileIO(path, mode.replace("b", "").replace("t", "")), moments, path)
        return stream if "b" in mode else io.TextIOWrapper(stream, encoding or "utf-8", errors, newline)

    io.open = builtins.open = opened  # type: ignore[assignment]


def _wrap_writers(moments: Moments) -> None:
    """What writes files by itself, past Python."""
    import polars as pl
    import torch

    def wrap(owner: Any, name: str, place: int) -> None:
        real = getattr(owner, name)

        def write(*given: Any, **named: Any) -> Any:
            path = given[place] if len(given) > place else None
            if isinstance(path, str | Path):

                def half() -> None:
                    real(*given, **named)
                    os.truncate(path, os.stat(path).st_size // 2)  # noqa: PTH116

                moments.meet("half", path, half)
            return real(*given, **named)

        setattr(owner, name, write)

    wrap(torch, "save", 1)
    wrap(pl.LazyFrame, "sink_csv", 1)
    wrap(pl.LazyFrame, "sink_parquet", 1)
    wrap(pl.DataFrame, "write_parquet", 1)


def _wrap_steps(moments: Moments) -> None:
    """Training steps are moments, states are saved every third one, and parts of predictions are small."""
    from isograft.predict import answering, parts
    from isograft.train.callbacks import Checkpoint
    from isograft.train.finetune_module import FinetuneModule
    from isograft.train.pretrain_module import PretrainModule

    for module in (PretrainModule, FinetuneModule):
        real = module.training_step

        def training_step(self: Any, *given: Any, real: Any = real) -> Any:
            moments.meet("step", None)
            return real(self, *given)

        module.training_step = training_step
    made = Checkpoint.__init__

    def make(self: Any, *given: Any, **named: Any) -> None:
        made(self, *given, **named)
        self.every_steps = 3

    Checkpoint.__init__ = make
    answering.CHUNK, parts.ROWS = 2, 4


# What happens in the process that kills.


def run(words: Sequence[str], folder: Path, fatal: int | None = None, log: Path | None = None) -> tuple[int, str]:
    """Run a command line in a process of its own; return its exit code (-9 when it was killed) and what it said."""
    said = folder.with_name(f"{folder.name}.said")
    child = os.fork()
    if child == 0:
        _be(words, folder, fatal, log, said)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), said.read_text(errors="replace")


def _be(words: Sequence[str], folder: Path, fatal: int | None, log: Path | None, said: Path) -> None:
    """Be the command line; never return."""
    code = 1
    try:
        os.setsid()
        signal.alarm(PATIENCE)
        stream = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        os.environ["COLUMNS"] = "1000"
        from isograft.cli import main

        noted = None if log is None else log.open("w", buffering=1)
        moments = Moments(f"{folder}/", fatal, noted)
        plant(moments)
        try:
            main(words)
        except SystemExit as end:
            code = int(end.code or 0)
        if code == 0:
            moments.meet("end", None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def content(folder: Path) -> dict[str, Any]:
    """All that lies in a folder: path to bytes, without wall-clock values."""
    return {path.relative_to(folder).as_posix(): None if path.is_dir() else _timeless(path, folder) for path in sorted(folder.rglob("*"))}


def _timeless(path: Path, folder: Path) -> Any:
    if UNCOMPARED.search(path.relative_to(folder).as_posix()):
        return "there"
    data = path.read_bytes().replace(os.fsencode(folder), b"OUT")
    if path.name == "history.csv":
        return [
            {name: value for name, value in row.items() if name != "images_per_second"}
            for row in csv.DictReader(io.StringIO(data.decode()))
        ]
    if path.name == "README.md":
        return [line for line in data.splitlines() if not re.search(rb"\d\d\d\d-\d\d-\d\d", line)]
    if path.name == "model.json":
        record = _without_times(json.loads(data))
        return {**record, "files": {name: sha for name, sha in record["files"].items() if name not in OF_THE_CLOCK}}
    if path.suffix == ".json":
        return _without_times(json.loads(data))
    if path.suffix == ".jsonl":
        return sorted(json.dumps(_without_times(json.loads(line)), sort_keys=True) for line in data.splitlines() if line)
    return data


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_times(one) for name, one in value.items() if name not in TIMES}
    return [_without_times(one) for one in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Whole:
    """A story that was not disturbed: what it left, and the kinds of its events in order."""

    content: dict[str, Any]
    events: list[str]


class Killing:
    """Runs stories in a folder, undisturbed and killed."""

    def __init__(self, work: Path) -> None:
        self.work = work.resolve()
        self._number = 0

    def words(self, story: Story, out: Path) -> list[str]:
        """The command line of an attempt."""
        return [word.replace("WORK", str(self.work)).replace("OUT", str(out)) for word in story.words]

    @contextmanager
    def attempt(self) -> Iterator[Path]:
        """A new folder, gone afterwards."""
        self._number += 1
        folder = self.work / f"attempt-{self._number:06d}"
        folder.mkdir()
        yield folder
        shutil.rmtree(folder)

    def whole(self, story: Story) -> Whole:
        """Run a story to its end."""
        with self.attempt() as out:
            log = self.work / "events"
            code, said = run(self.words(story, out), out, log=log)
            if code:
                raise RuntimeError(f"{story.name} fails undisturbed: {said}")
            return Whole(content(out), log.read_text().splitlines())

    def killed(self, story: Story, whole: Whole, fatal: int, again: int | None) -> dict[str, Any]:
        """Kill a story at an event, let it go on, perhaps killed once more, and say what differs from the whole one."""
        with self.attempt() as out:
            words, told = self.words(story, out), {"story": story.name, "event": fatal, "kind": whole.events[fatal - 1]}
            code, said = run(words, out, fatal)
            if code != -signal.SIGKILL:
                return {**told, "problem": f"it was not killed but ended with {code}: {said[-500:]}"}
            if again is not None:
                self._go_on(story, words, out, again)
            code, said = self._go_on(story, words, out)
            if code and not _was_finished(said):
                return {**told, "problem": f"it cannot go on ({code}): {said[-500:]}"}
            return {**told, "killed_again": again, "problem": different(whole.content, content(out))}

    def _go_on(self, story: Story, words: list[str], out: Path, fatal: int | None = None) -> tuple[int, str]:
        """As a user would: with --resume, or where that says so, without."""
        if story.resumable:
            code, said = run([*words, "--resume"], out, fatal)
            if not (code == 2 and "leave --resume out" in said):
                return code, said
        return run(words, out, fatal)


def _was_finished(said: str) -> bool:
    """Whether a command refused to begin, as its output is complete: only what it would have removed was left."""
    return bool(re.search(r"--out .* already exists; delete it", said))


def different(whole: dict[str, Any], found: dict[str, Any]) -> str | None:
    """What differs, in words; None when nothing does."""
    missing, more = sorted(whole.keys() - found.keys()), sorted(found.keys() - whole.keys())
    other = sorted(name for name in whole.keys() & found.keys() if whole[name] != found[name])
    told = [
        f"{what}: {', '.join(names)}" for what, names in (("missing", missing), ("left behind", more), ("other content", other)) if names
    ]
    return "; ".join(told) or None


def draw(stories: Sequence[tuple[Story, Whole]], moments: int, seed: int) -> list[tuple[Story, Whole, int, int | None]]:
    """The moments to kill at: those that every story must meet, then drawn ones."""
    rng = np.random.default_rng(seed)
    chosen = []
    for story, whole in stories:
        for pattern in story.musts:
            fitting = [number for number, kind in enumerate(whole.events, start=1) if re.match(pattern, kind)]
            if not fitting:
                raise RuntimeError(f"{story.name} has no event '{pattern}' any more")
            chosen.append((story, whole, int(rng.choice(fitting))))
    while len(chosen) < moments:
        story, whole = stories[len(chosen) % len(stories)]
        kind = rng.choice(sorted({*whole.events}))
        fitting = [number for number, one in enumerate(whole.events, start=1) if one == kind]
        chosen.append((story, whole, int(rng.choice(fitting))))
    agains = [int(rng.integers(1, len(whole.events) + 1)) if rng.random() < 1 / 3 else None for _, whole, _ in chosen]
    return [(*one, again) for one, again in zip(chosen, agains, strict=True)]


def prepare(work: Path) -> None:
    """Draw images of two classes, and write the study."""
    import cv2

    for place, data in enumerate(("images", "task")):
        for kind, name in enumerate(CLASSES):
            (work / data / name).mkdir(parents=True, exist_ok=True)
            for number in range(EACH):
                rng = np.random.default_rng([place, kind, number])
                image = rng.normal(130, 25, size=(36, 40, 3))
                if kind:
                    image[:, int(rng.integers(0, 6)) :: 8] -= 70
                cv2.imwrite(str(work / data / name / f"{number}.png"), image.clip(0, 255).astype(np.uint8))
    (work / "study.yaml").write_text(STUDY.replace("WORK", str(work)))


def load() -> None:
    """Load all that the verbs load, so that a fork begins at once; nothing is computed, so no thread of torch is running."""
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", MPLBACKEND="agg")
    import torch

    from isograft import cli  # noqa: F401
    from isograft.data import cache, ingest, source  # noqa: F401
    from isograft.predict import answering, predict  # noqa: F401
    from isograft.report import study_figures  # noqa: F401
    from isograft.study import probes, report, scoring, study, work  # noqa: F401
    from isograft.train import finetune, pretrain  # noqa: F401

    torch.set_num_threads(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--moments", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--story", choices=[story.name for story in STORIES], action="append", help="only this one [default: all]")
    parser.add_argument("--list", action="store_true", help="show the events of the undisturbed runs, and kill none")
    parser.add_argument("--json", type=Path, help="also write what the last line says to this file")
    args = parser.parse_args()
    load()
    wanted = [story for story in STORIES if not args.story or story.name in args.story]
    with tempfile.TemporaryDirectory(prefix="isograft-kill-") as folder:
        killing = Killing(Path(folder))
        prepare(killing.work)
        if any(story.name == "predict" for story in wanted):
            _make_model(killing)
        wholes = [(story, killing.whole(story)) for story in wanted]
        for story, whole in wholes:
            print(json.dumps({"story": story.name, "events": len(whole.events), "kinds": len({*whole.events})}), flush=True)
            if args.list:
                print("\n".join(whole.events))
        if args.list:
            return
        problems = 0
        for story, whole, fatal, again in draw(wholes, args.moments, args.seed):
            told = killing.killed(story, whole, fatal, again)
            problems += told["problem"] is not None
            print(json.dumps(told), flush=True)
        result = {"moments": args.moments, "seed": args.seed, "problems": problems}
        print(json.dumps(result))
        if args.json:
            args.json.write_text(json.dumps(result) + "\n")
    sys.exit(min(1, problems))


def _make_model(killing: Killing) -> None:
    """The classifier that predicts."""
    story = next(story for story in STORIES if story.name == "finetune")
    with killing.attempt() as out:
        code, said = run(killing.words(story, out), out)
        if code:
            raise RuntimeError(f"finetune fails undisturbed: {said}")
        shutil.copytree(out / "run", killing.work / "model")


if __name__ == "__main__":
    main()
