"""Whose image it is: patient, study and series as keyed hashes, so that images of one person stay together and unnamed.

A DICOM identifier is easy to guess (patient numbers are short, UIDs follow patterns), so a plain hash of it could be found again
by trying. The key of these hashes is a secret of the site: a file of random digits, made at first use and never written anywhere
else. The same key gives the same patient the same hash in every manifest; without it the hashes lead nowhere.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import unicodedata
from functools import lru_cache
from pathlib import Path

from isograft import console
from isograft.data.dicom_elements import Elements, raw, text
from isograft.errors import IsograftError

_PATIENT, _STUDY, _SERIES, _LATERALITY, _IMAGE_LATERALITY = 0x00100020, 0x0020000D, 0x0020000E, 0x00200060, 0x00200062
_NAMING = (
    *(0x00080018, 0x00080050, 0x00100010, _PATIENT, 0x00100030, 0x00101000, 0x00101001, _STUDY, _SERIES, 0x00200010),
    *(0x00020003, 0x00080080, 0x00080090),
)
IDENTITY_TAGS = (*_NAMING, _LATERALITY, _IMAGE_LATERALITY)
"""The elements that are looked at to tell images of one person: instance UIDs, accession number, name, patient's and other numbers,
birth date, study number, institution, referring physician; and the side of the body."""

_PERSONS = (0x00100010, 0x00101001, 0x00080090)
_VALUES, _PARTS_OF_A_NAME = re.compile(r"\\"), re.compile(r"[\\^=]")
_HASHED = {"patient": _PATIENT, "study": _STUDY, "series": _SERIES}
_SHORTEST_NAME = 4
_SHORTEST_KEY = 16


def default_key_file() -> Path:
    """The file with the key of this site, unless another one is named."""
    return Path.home() / ".config" / "isograft" / "key"


def identity(elements: Elements, key_file: Path | None) -> dict[str, str | None]:
    """The columns that a file's identifiers give.

    Args:
        elements: Its elements; those of `IDENTITY_TAGS` matter.
        key_file: The file with the key; None takes that of this site, and makes it where there is none.

    Returns:
        `patient`, `study` and `series` as 16 hexadecimal digits, `laterality` as `L`, `R` or `B`, each None where the file does not
        say; and as `group` the first of patient, study and series that it does say.

    Raises:
        IsograftError: The key cannot be read or made.
    """
    columns: dict[str, str | None] = {}
    for name, tag in _HASHED.items():
        value = raw(elements, tag).strip(b" \0")
        columns[name] = _hash(value, _key(key_file or default_key_file(), key_file is None), name) if value else None
    side = text(elements, _IMAGE_LATERALITY) or text(elements, _LATERALITY)
    columns["laterality"] = side if side in ("L", "R", "B") else None
    columns["group"] = columns["patient"] or columns["study"] or columns["series"]
    return columns


def telling(file: str, elements: Elements) -> frozenset[str]:
    """The folders and the name in a file's path that hold an identifier of its own patient or study, of 4 characters or more."""
    known: set[str] = set()
    for tag in _NAMING:
        if value := raw(elements, tag):
            known.update(_words(value, tag in _PERSONS))
    return frozenset(piece for piece in Path(file).parts if any(word in _plain(piece) for word in known)) if known else frozenset()


@lru_cache(maxsize=256)
def _words(value: bytes, person: bool) -> frozenset[str]:
    """The identifiers in a value, as they may stand in a path."""
    separators = _PARTS_OF_A_NAME if person else _VALUES
    found = {_plain(word) for one in {value.decode("utf-8", "replace"), value.decode("latin-1")} for word in separators.split(one)}
    return frozenset(word for word in found if len(word) >= _SHORTEST_NAME)


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip(" \0")).casefold()


def _hash(value: bytes, key: bytes, name: str) -> str:
    return hashlib.blake2b(value, key=key, person=name.encode(), digest_size=8).hexdigest()


@lru_cache(maxsize=8)
def _key(path: Path, own: bool) -> bytes:
    """The key in a file: 64 bytes, whatever its length. Without one the site's own is made."""
    if own:
        _make(path)
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        advice = "name another with --hash-key, or make one: openssl rand -hex 32"
        raise IsograftError(f"the key for patient hashes, {path}, cannot be read: {error.strerror}; {advice}") from None
    if len(secret) < _SHORTEST_KEY:
        raise IsograftError(f"the key for patient hashes, {path}, has {len(secret)} characters; 16 are the least: openssl rand -hex 32")
    return hashlib.blake2b(secret, person=b"isograft-key").digest()


def _make(path: Path) -> None:
    """Make the site's key, readable by this user alone, unless it is there."""
    if path.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return  # another run was faster
    except OSError as error:
        raise IsograftError(f"the key for patient hashes, {path}, cannot be made: {error.strerror}; name one with --hash-key") from None
    with os.fdopen(descriptor, "w") as stream:
        stream.write(secrets.token_hex(32) + "\n")
    console.say(f"Made the key {path} for patient hashes; keep it secret, and keep it: with another key all hashes differ")
