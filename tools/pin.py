"""Write constraints.txt: the versions installed here of everything isograft needs with all its extras (run by `make pin`)."""

from __future__ import annotations

import sys

from packages import BY_MACHINE, closure, every_extra, requirements, version

HEADER = "# The tested set. Made by `make pin`; used by `make venv` as `pip install -c constraints.txt`.\n"


def text() -> str:
    """The content of constraints.txt."""
    names = sorted(name for name in closure(requirements(every_extra())) if not BY_MACHINE.match(name))
    return HEADER + "".join(f"{name}=={version(name)}\n" for name in names)


if __name__ == "__main__":
    sys.stdout.write(text())
