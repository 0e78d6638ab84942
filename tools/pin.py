"""Write constraints.txt: the versions installed here of everything `isograft[dev]` needs (run by `make pin`)."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
# Which of these torch needs depends on the machine; torch's own pins choose them.
BY_MACHINE = re.compile(r"(nvidia|cuda|triton)")
HEADER = "# The tested set. Made by `make pin`; used by `make venv` as `pip install -c constraints.txt`.\n"


def wanted() -> list[Requirement]:
    """The direct requirements of the package and of its development set."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(line) for line in [*project["dependencies"], *project["optional-dependencies"]["dev"]]]


def closure(roots: list[Requirement]) -> dict[str, str]:
    """Names and installed versions of the requirements and of everything they need here."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    todo = [(requirement.name, extra) for requirement in roots for extra in ("", *requirement.extras)]
    while todo:
        name, extra = todo.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if (key, extra) in seen or BY_MACHINE.match(key):
            continue
        seen.add((key, extra))
        found[key] = metadata.version(name).partition("+")[0]
        for line in metadata.requires(name) or []:
            child = Requirement(line)
            if child.marker is None or child.marker.evaluate({"extra": extra}):
                todo += [(child.name, inner) for inner in ("", *child.extras)]
    return found


def text() -> str:
    """The content of constraints.txt."""
    return HEADER + "".join(f"{name}=={version}\n" for name, version in sorted(closure(wanted()).items()))


if __name__ == "__main__":
    sys.stdout.write(text())
