"""Ask a vulnerability service about the pinned packages, with pip-audit (run by `make advisories`).

Exit code 1 for a known vulnerability that a newer version mends, else 0: one that nothing mends yet is told, and so is that no service
could be reached.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from packages import PINS

SECONDS = 60
COMMAND = (
    sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--requirement", str(PINS),
    "--format", "json", "--progress-spinner", "off", "--timeout", "10",
)  # fmt: skip
SERVICES = ((), ("--vulnerability-service", "osv"))
"""pip-audit's own choice first."""


def ask(command: Sequence[str] = COMMAND, services: Sequence[Sequence[str]] = SERVICES, seconds: float = SECONDS) -> dict[str, Any] | None:
    """What the first service says that knows our packages, as pip-audit writes it; None where none can be reached in time."""
    until = time.monotonic() + seconds
    for service in services:
        try:
            left = max(until - time.monotonic(), 0.1)
            done = subprocess.run([*command, *service], capture_output=True, text=True, timeout=left, check=False)
            found = json.loads(done.stdout)
        except (subprocess.TimeoutExpired, ValueError):
            continue
        packages = found.get("dependencies", []) if isinstance(found, dict) else []
        if any("vulns" in package for package in packages):  # one that has heard of none of them is no service
            return dict(found)
    return None


def verdict(found: Mapping[str, Any] | None) -> tuple[list[str], int]:
    """Lines for people, and the exit code."""
    if found is None:
        return [f"advisories: not asked, as no vulnerability service could be reached within {SECONDS} s"], 0
    lines, code = [], 0
    for package in found["dependencies"]:
        for one in package.get("vulns", ()):
            mended = one.get("fix_versions") or []
            remedy = f"mended in {', '.join(mended)}: change constraints.txt" if mended else "no version mends it yet"
            lines.append(f"advisories: {package['name']} {package['version']} has {one['id']}; {remedy}")
            code = max(code, int(bool(mended)))
    unknown = [package["name"] for package in found["dependencies"] if "vulns" not in package]
    if unknown:
        lines.append(f"advisories: the service does not know {', '.join(unknown)}")
    known = len(found["dependencies"]) - len(unknown)
    return [*lines, f"advisories: {known} pinned packages looked up"], code


if __name__ == "__main__":
    told, exit_code = verdict(ask())
    print("\n".join(told))
    raise SystemExit(exit_code)
