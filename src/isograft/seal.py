"""The seal of a model: the one hash by which somebody approves it, and by which it is known again.

The seal of a model folder is the SHA-256 of its `model.json`, which lists the SHA-256 of every other file: it stands for every byte of
the model, and any program that computes SHA-256 finds it. The seal of a weights file is its own SHA-256. Wherever a model folder or a
weights file is named, `PLACE@sha256:SEAL` means that one and no other.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from isograft.errors import IsograftError

_MARK = "@sha256:"
_SEAL = re.compile(r"[0-9a-f]{64}")


def split_seal(place: Path | str) -> tuple[Path, str | None]:
    """What a place names, and the seal it must have: 64 hexadecimal digits, or None where any will do.

    Raises:
        IsograftError: What follows `@sha256:` is no SHA-256.
    """
    path, mark, seal = str(place).rpartition(_MARK)
    if not mark:
        return Path(place), None
    if not path or not _SEAL.fullmatch(seal.lower()):
        raise IsograftError(f"{place} is not PLACE{_MARK}SEAL with the 64 hexadecimal digits that isograft show prints as seal")
    return Path(path), seal.lower()


def without_seal(place: Path | str) -> Path:
    """What a place names, whatever seal it must have."""
    return split_seal(place)[0]


def with_seal(path: Path, seal: str | None) -> str:
    """The place that `split_seal` took apart."""
    return str(path) if seal is None else f"{path}{_MARK}{seal}"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file: 64 hexadecimal digits. It is read piece by piece."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_seal(path: Path, found: str, expected: str | None) -> None:
    """Refuse a file that is not the approved one.

    Args:
        path: The file, for the message.
        found: Its SHA-256.
        expected: The SHA-256 that was asked for; None where any will do.

    Raises:
        IsograftError: They differ.
    """
    if expected is not None and found != expected:
        raise IsograftError(
            f"{path} has the seal {found}, but {expected} was asked for: this is not the approved model; "
            "get that one, or have this one approved and give its seal"
        )
