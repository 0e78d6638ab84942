"""Which packages an installation of isograft consists of, as installed here."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PINS = ROOT / "constraints.txt"
# Which of these torch needs depends on the machine; torch's own pins choose them.
BY_MACHINE = re.compile(r"(nvidia|cuda|triton)")
# It comes with Python, and installs the others.
_WITH_PYTHON = "pip"


def project() -> dict[str, Any]:
    """The table `project` of pyproject.toml."""
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def requirements(extras: Iterable[str] = ()) -> list[Requirement]:
    """What isograft needs, with these extras."""
    about = project()
    lines = [*about["dependencies"], *(line for extra in extras for line in about["optional-dependencies"][extra])]
    return [Requirement(line) for line in lines]


def user_extras() -> list[str]:
    """The extras that are for users; `dev` is for those who work on isograft."""
    return [extra for extra in project()["optional-dependencies"] if extra != "dev"]


def every_extra() -> list[str]:
    """All extras."""
    return list(project()["optional-dependencies"])


def key(name: str) -> str:
    """The one spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(roots: Iterable[Requirement]) -> dict[str, set[str]]:
    """The requirements and everything they need here, each with the names of what it needs itself.

    Raises:
        SystemExit: One of them is not installed.
    """
    found: dict[str, set[str]] = {}
    seen: set[tuple[str, str]] = set()
    todo = [(requirement.name, extra) for requirement in roots for extra in ("", *requirement.extras)]
    while todo:
        name, extra = todo.pop()
        if (key(name), extra) in seen or key(name) == _WITH_PYTHON:
            continue
        seen.add((key(name), extra))
        needs = found.setdefault(key(name), set())
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            raise SystemExit(f"{name} is needed but not installed here; run: make dev") from None
        for child in map(Requirement, lines):
            if child.marker is None or child.marker.evaluate({"extra": extra}):
                needs.add(key(child.name))
                todo += [(child.name, inner) for inner in ("", *child.extras)]
    return found


def version(name: str) -> str:
    """The installed version, without the part that names a build for a machine (`+cpu`)."""
    return metadata.version(name).partition("+")[0]


def pins() -> dict[str, str]:
    """Names and versions of constraints.txt."""
    lines = PINS.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))
