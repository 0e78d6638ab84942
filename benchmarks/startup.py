"""How long the command line takes to answer, beside lightly-train's: help, a mistyped command, a wrong option.

Every command is a process of its own, ours and the peer's taking turns; the median over the rounds counts, of wall time and of CPU time.

Claim: isograft answers in less than 0.7 s.

    python benchmarks/startup.py [--rounds 10] [--peer-python VENV/bin/python]
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import peers
from harness import arguments, described, finish, parser, significant

LONGEST = 0.7
ASKED = {
    "help": (["--help"], ["--help"]),
    "a mistyped command": (["pretain", "pool"], ["pretain", "data=pool"]),
    "a wrong option": (
        ["pretrain", "pool", "--out", "model", "--bach-size", "8"],
        ["pretrain", "data=pool", "out=model", "model=torchvision/resnet18", "bach_size=8"],
    ),
}


def clock(command: Sequence[str], env: Mapping[str, str], cwd: str) -> tuple[float, float, int, str]:
    """Wall and CPU seconds of a command, its exit code and the last line it wrote."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env, cwd=cwd)
    assert process.stdout is not None
    said = process.stdout.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    lines = [line.strip() for line in said.splitlines() if line.strip(" ╭╮╰╯─│")]
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime, process.returncode, lines[-1] if lines else ""


def measure(tools: Mapping[str, tuple[list[str], dict[str, str]]], rounds: int, cwd: str) -> list[dict[str, Any]]:
    """Median seconds of every tool for everything asked; the first round warms up the disk and does not count."""
    found: dict[tuple[str, str], list[tuple[float, float, int, str]]] = {}
    for attempt in range(rounds + 1):
        for what, asked in ASKED.items():
            for place, (tool, (command, env)) in enumerate(tools.items()):
                times = clock([*command, *asked[place]], env, cwd)
                if attempt:
                    found.setdefault((what, tool), []).append(times)
    return [
        {
            "asked": what,
            "tool": tool,
            "seconds": significant(statistics.median(one[0] for one in times)),
            "fastest": significant(min(one[0] for one in times)),
            "slowest": significant(max(one[0] for one in times)),
            "cpu_seconds": significant(statistics.median(one[1] for one in times)),
            "exit_code": times[-1][2],
        }
        for (what, tool), times in found.items()
    ]


def main() -> int:
    """Print and write the figures; 1 when we are slower than claimed."""
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=10)
    peers.add_options(options, "lightly-train")
    args = arguments(options, {"rounds": 1})
    tools = {"isograft": ([sys.executable, "-m", "isograft"], dict(os.environ))}
    with described() as result:
        try:
            python = peers.find("lightly-train", args.peer_python, args.install)
            tools["lightly-train"] = ([str(python.with_name("lightly-train"))], peers.environment())
            result["peer"] = peers.version(python, "lightly-train")
        except peers.PeerMissingError as missing:
            result["skipped"] = [{"what": "lightly-train", "why": str(missing)}]
        with tempfile.TemporaryDirectory() as empty:
            rows = measure(tools, args.rounds, empty)
        ours = {row["asked"]: row for row in rows if row["tool"] == "isograft"}
        theirs = {row["asked"]: row for row in rows if row["tool"] != "isograft"}
        result["rounds"], result["answers"] = args.rounds, rows
        result["slowest_median_s"] = max(row["seconds"] for row in ours.values())
        result["peer_seconds_over_ours"] = {what: significant(theirs[what]["seconds"] / ours[what]["seconds"]) for what in theirs}
    finish(result, args)
    return int(result["slowest_median_s"] > LONGEST)


if __name__ == "__main__":
    raise SystemExit(main())
