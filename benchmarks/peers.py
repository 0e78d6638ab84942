"""Other tools to compare with, each in a virtual environment of its own: found, or made when asked, and never otherwise.

python benchmarks/peers.py --install lightly-train imagededup
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

PEERS = {"lightly-train": "lightly_train", "imagededup": "imagededup"}
"""The package to install, and the module that it brings."""
FOLDER = Path("~/.cache/isograft/peers").expanduser()

# lightly-train sends usage events unless the first is set (its documentation and `lightly_train/_env.py`); albumentations, which it uses,
# asks the network for a newer version unless the second is.
SILENCE = {
    "LIGHTLY_TRAIN_EVENTS_DISABLED": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


class PeerMissingError(RuntimeError):
    """A peer cannot be run; the message says why, and how it can be had."""


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """The options that say where a peer is."""
    parser.add_argument("--peer-python", type=Path, help=f"the Python of an environment with {name} [default: below {shown(FOLDER)}]")
    parser.add_argument("--install", action="store_true", help=f"install {name} there first (downloads; never done without this)")


def find(name: str, given: Path | None, install: bool = False) -> Path:
    """The Python that has the peer.

    Raises:
        PeerMissingError: There is none, or the peer cannot be imported.
    """
    python = given or python_of(FOLDER, name)
    if install and given is None:
        make(name)
    if not python.exists():
        raise PeerMissingError(
            f"{name} is not installed ({shown(python)} does not exist); to install it: python benchmarks/peers.py --install {name}"
        )
    done = subprocess.run([python, "-c", f"import {PEERS[name]}"], capture_output=True, text=True, env=environment(), timeout=300)
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise PeerMissingError(f"{name} cannot be imported by {shown(python)}: {reason}")
    return python


def shown(path: Path) -> str:
    """A path without the name of the home folder."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def python_of(folder: Path, name: str) -> Path:
    """Where the Python of a peer's environment is."""
    return folder / name / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def version(python: Path, name: str) -> str:
    """The peer and its version."""
    code = f"from importlib.metadata import version; print(version({name!r}))"
    return f"{name} {subprocess.run([python, '-c', code], capture_output=True, text=True, check=True).stdout.strip()}"


def make(name: str) -> None:
    """Make the environment of a peer with what it needs."""
    python = python_of(FOLDER, name)
    venv.create(FOLDER / name, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", name], check=True)


def environment(**further: str) -> dict[str, str]:
    """The environment for a peer's process: no telemetry, no downloads, and none of our own paths."""
    return {**{name: value for name, value in os.environ.items() if name != "PYTHONPATH"}, **SILENCE, **further}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--install", nargs="+", choices=list(PEERS), required=True)
    for name in parser.parse_args(arguments).install:
        make(name)
        print(f"{name}: {find(name, None)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
