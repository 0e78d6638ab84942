"""A command watched from outside: how long it takes, and how much memory it and all its children hold."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PERIOD = 0.4


@dataclass(frozen=True)
class Watched:
    """What became of a command.

    Attributes:
        code: Exit status; negative is the signal that ended it.
        seconds: Wall time.
        cpu_seconds: CPU time of it and of its children that ended.
        rss_mb: Most memory of all its processes at one time, each counted whole (shared pages as often as they are mapped).
        pss_mb: The same with shared pages counted once, which is what the machine has to hold.
        output: The end of what it wrote.
    """

    code: int
    seconds: float
    cpu_seconds: float
    rss_mb: float
    pss_mb: float
    output: str


class CommandError(RuntimeError):
    """A watched command failed, or took longer than it may; the message ends with what it said last."""


def watch(command: Sequence[str], env: Mapping[str, str] | None = None, limit: float | None = None, check: bool = True) -> Watched:
    """Run a command to its end in a session of its own, which is killed whole when it takes more than `limit` seconds.

    Raises:
        CommandError: It failed and `check` is set, or ran out of time.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env, start_new_session=True
        )
        peaks, ended = [0.0, 0.0], threading.Event()
        sampler = threading.Thread(target=_sample, args=(process.pid, peaks, ended), daemon=True)
        sampler.start()
        timer = threading.Timer(limit, _kill, [process.pid]) if limit else None
        if timer:
            timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - began
            process.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            _kill(process.pid)
            raise
        finally:
            ended.set()
            sampler.join()
            if timer:
                timer.cancel()
        output.seek(0)
        said = output.read()[-8000:]
    if limit and seconds >= limit and process.returncode == -signal.SIGKILL:
        raise CommandError(f"{_name(command)} was ended after {seconds:.0f} s, more than it may take; it said last: {last_words(said)}")
    if check and process.returncode:
        raise CommandError(f"{_name(command)} ended with {process.returncode}: {last_words(said)}")
    rss = max(peaks[0], usage.ru_maxrss / 1024)
    return Watched(process.returncode, seconds, usage.ru_utime + usage.ru_stime, rss, peaks[1] or rss, said)


def last_words(said: str, lines: int = 3) -> str:
    """The last lines of an output that hold anything, as one."""
    return " / ".join([line.strip() for line in said.splitlines() if line.strip()][-lines:])[:600] or "nothing"


def _name(command: Sequence[str]) -> str:
    return " ".join(Path(part).name for part in command[:4])


def _kill(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _sample(leader: int, peaks: list[float], ended: threading.Event) -> None:
    """Note the peaks until the end; where there is no /proc, nothing is seen and the leader's own peak counts."""
    while True:
        held = [_memory(pid) for pid in tree(leader)]
        for place in (0, 1):
            peaks[place] = max(peaks[place], sum(one[place] for one in held))
        if ended.wait(PERIOD):
            return


def tree(leader: int) -> Iterator[int]:
    """The process and all that descend from it: those of its session."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone already
            if os.getsid(int(entry.name)) == leader:
                yield int(entry.name)


def _memory(pid: int) -> tuple[float, float]:
    """MB that a process holds: whole, and with shared pages shared out; zeros once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0, 0.0
    kb = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines) if name in {"Rss", "Pss"}}
    return kb.get("Rss", 0) / 1024, kb.get("Pss", 0) / 1024
