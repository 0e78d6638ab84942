"""What the benchmarks share: options, ways that take turns, and one result that is printed as tables and written as JSON."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import load, machine

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
IMAGES = DATA / "skin/ham10000/images"


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows the script's own text."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def model_options(parser: argparse.ArgumentParser) -> None:
    """Ask for a model, or for what one is made of where none is given."""
    parser.add_argument("--model", type=Path, help="a classifier's folder [default: one with random weights]")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0", help="of the model that is made when none is given")
    parser.add_argument("--size", type=int, default=64, help="its input in pixels")


def arguments(parser: argparse.ArgumentParser, quick: Mapping[str, Any]) -> argparse.Namespace:
    """Parse the command line; with --quick the values of `quick` are the defaults."""
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="smallest sizes, to see that everything runs; the figures mean nothing")
    if "--quick" in sys.argv[1:]:
        parser.set_defaults(**quick)
    return parser.parse_args()


@dataclass
class Times:
    """Seconds of one way by round."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def told(self, work: float = 1.0, unit: str = "per_s") -> dict[str, float]:
        """Median rate with its lowest and highest round, and the CPU time of one piece of `work` in milliseconds."""
        rates = [work / seconds for seconds in self.wall]
        return {
            unit: significant(statistics.median(rates)),
            "lowest": significant(min(rates)),
            "highest": significant(max(rates)),
            "cpu_ms_each": significant(1e3 * statistics.median(self.cpu) / work),
        }


def take_turns(ways: Mapping[str, Callable[[], object]], rounds: int, warm: int = 1) -> dict[str, Times]:
    """Call every way once per round, so that whatever else the machine does meets all; `warm` rounds before do not count."""
    times = {name: Times() for name in ways}
    for attempt in range(warm + rounds):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), sum(os.times()[:4])
            way()
            if attempt >= warm:
                times[name].wall.append(time.perf_counter() - wall)
                times[name].cpu.append(sum(os.times()[:4]) - cpu)
    return times


def times_as_fast(one: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """How many times as fast the first is as the second, from seconds by round: the median of the rounds' ratios, and their range."""
    ratios = [theirs / ours for ours, theirs in zip(one, other, strict=True)]
    return {"ratio": significant(statistics.median(ratios)), "lowest": significant(min(ratios)), "highest": significant(max(ratios))}


def significant(value: float, digits: int = 4) -> float:
    """The value with so many digits that mean something."""
    return float(f"{value:.{digits}g}")


@contextmanager
def described() -> Iterator[dict[str, Any]]:
    """A result that knows its machine and the load before and after."""
    result: dict[str, Any] = {"machine": machine()}
    yield result
    result["machine"]["load_at_end"] = load()


def finish(result: Mapping[str, Any], args: argparse.Namespace) -> None:
    """Print a result as tables, and write it where `--json` says."""
    print(markdown(result))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def markdown(result: Mapping[str, Any], level: int = 0) -> str:
    """A result as Markdown: plain values as a list, tables where rows have the same columns, the rest under headings."""
    plain = {name: value for name, value in result.items() if _plain(value)}
    blocks = ["\n".join(f"- {_words(name)}: {_cell(value)}" for name, value in plain.items())] if plain else []
    for name, value in result.items():
        if name in plain or not value:
            continue
        heading = f"**{_words(name)}**" if level == 0 else f"*{_words(name)}*"
        if isinstance(value, Mapping) and all(isinstance(row, Mapping) and all(map(_plain, row.values())) for row in value.values()):
            body = table([{"": _words(key), **row} for key, row in value.items()])
        elif isinstance(value, Mapping):
            body = markdown(value, level + 1)
        elif all(isinstance(row, Mapping) for row in value):
            body = table([{key: cell for key, cell in row.items() if not isinstance(cell, Mapping)} for row in value])
        else:
            body = ", ".join(map(_cell, value))
        blocks.append(f"{heading}\n\n{body}")
    return "\n\n".join(blocks)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a Markdown table whose columns line up."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_words(name) for name in columns], *([_cell(row.get(name, "")) for name in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _words(name: object) -> str:
    return str(name).replace("_", " ").replace("|", "/")


def _cell(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return (f"{value:,}" if isinstance(value, int) else str(value)).replace("|", "/").replace("\n", " ")
