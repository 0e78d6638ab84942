"""Runs the benchmarks of claims.py one after the other, and writes RESULTS.md and results.json.

What has finished for this commit on this machine is kept: the same command goes on where it was stopped, and tries again what
failed. A script that fails, runs out of time (three times what it should take) or lacks its peer is named with the reason. With
--quick everything runs at its smallest size, to see that it runs; those figures mean nothing, and are written beside the working files.

    python benchmarks/run_all.py [--quick] [--only NAME ...] [--long] [--peers FOLDER] [--list]
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import peers
from claims import CLAIMS, Claim, Target
from harness import DATA, markdown, table
from machine import ROOT, load, machine
from material import photographs
from watching import CommandError, last_words, watch

HERE = Path(__file__).resolve().parent
DONE_CODES = (0, 1)
"""A script that ran ends with 1 where its claim was missed."""


def options(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smallest sizes")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[claim.name for claim in CLAIMS], help="only these")
    parser.add_argument("--long", action="store_true", help="also what takes hours")
    parser.add_argument("--again", action="store_true", help="forget what has finished")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the real images")
    parser.add_argument("--peers", type=Path, default=peers.FOLDER, help="folder of the peers' environments")
    parser.add_argument("--work", type=Path, default=ROOT / ".bench", help="working folder")
    parser.add_argument(
        "--out", type=Path, help="folder of RESULTS.md and results.json [default: benchmarks; the working folder with --quick]"
    )
    parser.add_argument("--list", action="store_true", help="say what would run, and for how long")
    args = parser.parse_args(given)
    args.out = args.out or (args.work if args.quick else HERE)
    return args


def chosen(args: argparse.Namespace) -> list[Claim]:
    """What is to run."""
    wanted = [claim for claim in CLAIMS if (claim.name in args.only if args.only else args.long or not claim.long)]
    return [claim for claim in wanted if not args.quick or claim.quick is not None]


def words(claim: Claim, args: argparse.Namespace, work: Path) -> list[str]:
    """The arguments of a script."""
    images = args.work / "drawn" if args.quick else args.data / "skin/ham10000/images"
    places = {"images": str(images), "data": str(args.data), "work": str(work)}
    return [word.format(**places) for word in (claim.quick or () if args.quick else claim.full)]


def run(claim: Claim, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run one script and keep its record."""
    place = folder / claim.name
    given = words(claim, args, place)
    result_file = Path(claim.own.format(work=place)) if claim.own else place / "result.json"
    place.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(HERE / claim.script), *given, *([] if claim.own else ["--json", str(result_file)])]
    if claim.peer:
        command += ["--peer-python", str(peers.python_of(args.peers, claim.peer))]
    record: dict[str, Any] = {"name": claim.name, "script": claim.script, "arguments": shown(claim, args), "began": now()}
    record |= {"load_at_start": load(), "machine": machine(), "failed": None}
    if not claim.own:
        result_file.unlink(missing_ok=True)
    try:
        done = watch(command, dict(os.environ), limit=3 * 60 * claim.minutes, check=False)
        record |= {"seconds": round(done.seconds, 1), "code": done.code}
        if done.code not in DONE_CODES or not result_file.exists():
            record["failed"] = f"ended with {done.code}: {last_words(done.output)}"
        else:
            record["result"] = json.loads(result_file.read_text())
    except CommandError as error:
        record["failed"] = str(error)
    record |= {"load_at_end": load(), "ended": now()}
    (folder / f"{place.name}.json").write_text(json.dumps(record, indent=2) + "\n")
    return record


def shown(claim: Claim, args: argparse.Namespace) -> str:
    """The arguments as anyone would give them."""
    given = claim.quick if args.quick else claim.full
    return shlex.join(word.format(images="IMAGES", data="../shared/data", work="WORK") for word in given or ())


def kept(claim: Claim, folder: Path, processor: str) -> dict[str, Any] | None:
    """The record of a script that has finished here."""
    path = folder / f"{claim.name}.json"
    if not path.exists():
        return None
    record: dict[str, Any] = json.loads(path.read_text())
    same = record["machine"]["processor"] == processor
    return record if same and record["failed"] is None else None


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def judged(claim: Claim, record: dict[str, Any] | None, quick: bool) -> list[dict[str, str]]:
    """Rows for the table of claims: what was found for every target."""
    result = (record or {}).get("result", {})
    reason = "not run" if record is None else f"failed: {record['failed']}" if record["failed"] else ""
    rows = []
    for target in claim.targets or (None,):
        row = {"name": claim.name, "claim": claim.says, "script": f"`benchmarks/{claim.script}`"}
        rows.append(row | _verdict(target, result, reason) | ({"met": "not judged"} if quick else {}))
    return rows


def _verdict(target: Target | None, result: dict[str, Any], reason: str) -> dict[str, str]:
    if target is None:
        return {"target": "–", "found": reason or "see below", "met": "–"}
    found, met = target.found(result), target.met(result)
    skipped = "; ".join(f"{one['what']}: {one['why']}" for one in result.get("skipped", ()))
    missing = reason or f"not measured{f' ({skipped})' if skipped else ''}"
    told = {"target": f"{target.what} {target.sign} {target.value:g}", "found": missing if found is None else f"{found:.4g}"}
    return told | {"met": "–" if met is None else "yes" if met else "**no**"}


def written(records: dict[str, dict[str, Any] | None], args: argparse.Namespace) -> None:
    """Write RESULTS.md and results.json from what there is."""
    by_name = {claim.name: claim for claim in CLAIMS}
    here = machine()
    intro = "Sizes are the smallest: the figures mean nothing." if args.quick else "What the figures say: docs/explanation/benchmarks.md."
    blocks = ["# Benchmark results", f"Written by `make bench{'-quick' if args.quick else ''}`. {intro}", "## Machine"]
    blocks.append(table([{"": name.replace("_", " "), "value": value} for name, value in here.items() if name != "load"]))
    blocks += ["## Claims", table([row for name, record in records.items() for row in judged(by_name[name], record, args.quick)])]
    for name, record in records.items():
        blocks += [f"## {name}", section(by_name[name], record)]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "RESULTS.md").write_text("\n\n".join(blocks) + "\n")
    content = {
        "quick": args.quick,
        "machine": here,
        "records": [record or {"name": name, "failed": "not run"} for name, record in records.items()],
    }
    (args.out / "results.json").write_text(json.dumps(content, indent=2) + "\n")


def section(claim: Claim, record: dict[str, Any] | None) -> str:
    """What one script found, how it was called, and beside what."""
    told = [f"{claim.says[0].upper()}{claim.says[1:]}."]
    if record is None:
        return "\n\n".join([*told, "Not run."])
    call = f"python benchmarks/{claim.script} {record['arguments']}".strip()
    took = f", {record['seconds'] / 60:.1f} min" if "seconds" in record else ""
    told.append(
        f"`{call}`: {record['began']}{took}; load {record['load_at_start']} at the start, {record['load_at_end']} at the end; "
        f"commit {record['machine']['commit']}."
    )
    if record["failed"]:
        return "\n\n".join([*told, f"**Failed**: {record['failed']}"])
    told += [f"Left out: {one['what']}, because {one['why']}." for one in record["result"].get("skipped", ())]
    figures = {name: value for name, value in record["result"].items() if name not in {"machine", "skipped"}}
    return "\n\n".join([*told, markdown(figures)])


def main(given: Sequence[str] | None = None) -> int:
    """Run what is left; 1 when a script failed."""
    args = options(given)
    claims = chosen(args)
    if args.list:
        print(table([{"name": claim.name, "script": claim.script, "minutes": claim.minutes, "claim": claim.says} for claim in claims]))
        print(f"\n{sum(claim.minutes for claim in claims):.0f} minutes on two quiet cores, three times as long at most")
        return 0
    here = machine()
    folder = args.work / ("quick" if args.quick else "full") / here["commit"]
    if args.again:
        shutil.rmtree(folder, ignore_errors=True)
    if args.quick:
        photographs(args.work / "drawn", 60, 64, 48, classes=2)
    records: dict[str, dict[str, Any] | None] = {claim.name: kept(claim, folder, here["processor"]) for claim in claims}
    written(records, args)
    for number, claim in enumerate(claims, 1):
        if records[claim.name] is None:
            print(f"[{number}/{len(claims)}] {claim.name}: {claim.script}, about {0.5 if args.quick else claim.minutes:g} min", flush=True)
            records[claim.name] = run(claim, args, folder)
        record = records[claim.name] or {}
        print(f"[{number}/{len(claims)}] {claim.name}: {record['failed'] or 'done'}", flush=True)
        written(records, args)
    print(f"written to {args.out / 'RESULTS.md'}")
    return int(any(record is None or record["failed"] for record in records.values()))


if __name__ == "__main__":
    sys.exit(main())
