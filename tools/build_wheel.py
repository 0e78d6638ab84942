"""Build the wheel of the last commit into dist/, with the same bytes wherever it is built (run by `make wheel`).

It is built from what git holds, not from what lies in the folder; time stamps are the commit's. Needs no network. The bytes also depend on
hatchling, which is pinned, and on the zlib of Python.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def git(*arguments: str) -> bytes:
    """What a git command says of this checkout."""
    return subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True).stdout


def build(source: Path, out: Path, epoch: int) -> Path:
    """Build the wheel of a source folder.

    Args:
        source: The folder with pyproject.toml.
        out: Where the wheel goes.
        epoch: Seconds since 1970 that become every time stamp.
    """
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out.resolve())]
    before = set(out.glob("*.whl"))
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
    subprocess.run(command, cwd=source, env=environment, check=True, stdout=subprocess.DEVNULL)
    (made,) = set(out.glob("*.whl")) - before
    return made


def build_commit(out: Path, commit: str = "HEAD") -> Path:
    """Build the wheel of a commit of this checkout."""
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(git("archive", "--format=tar", commit))) as archive:
            archive.extractall(folder, filter="data")
        made = build(Path(folder), Path(folder), int(git("log", "-1", "--format=%ct", commit)))
        out.mkdir(parents=True, exist_ok=True)
        (out / made.name).write_bytes(made.read_bytes())
    return out / made.name


if __name__ == "__main__":
    if git("status", "--porcelain", "--untracked-files=no"):
        print("not in the wheel: changes that are not committed", file=sys.stderr)
    wheel = build_commit(ROOT / "dist")
    print(f"{hashlib.sha256(wheel.read_bytes()).hexdigest()}  {wheel.relative_to(ROOT)}")
