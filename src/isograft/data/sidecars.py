"""What a shard tells of an image besides its pixels: the `.cls` and `.json` members of its sample, as manifest columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from isograft.data.manifest import RESERVED
from isograft.errors import IsograftError

Columns = dict[str, str | None]

ROLES = ("label", "group", "source", "split")
_MOST_FIELDS = 256


def columns_of(file: str, told: Mapping[str, tuple[str, bytes]]) -> Columns:
    """The columns of one image.

    `.cls` is its label. Of `.json` the fields `label`, `group` (or `patient`), `source` and `split` fill these columns; other fields that
    are text, numbers, true or false become further columns, as text. A field with the name of another manifest column becomes
    `json_NAME`. Lists and objects are left out.

    Args:
        file: The shard, for messages.
        told: Name and content of the sample's members, by their ending: `cls`, `json`.

    Raises:
        IsograftError: One of them cannot be read, or they disagree on the label.
    """
    columns: Columns = {}
    if "json" in told:
        columns = _from_json(file, *told["json"])
    if "cls" in told:
        name, data = told["cls"]
        label = _text(file, name, data).strip() or None
        if label is not None and columns.get("label") not in (None, label):
            raise IsograftError(f"{file}: {name} says {label!r}, but its .json says {columns['label']!r}; correct one of them")
        columns["label"] = label if label is not None else columns.get("label")
    return columns


def _from_json(file: str, name: str, data: bytes) -> Columns:
    text = _text(file, name, data)
    try:
        fields: Any = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise IsograftError(f'{file}: its member {name} is no JSON object; write for example {{"label": "nevus"}}')
    if len(fields) > _MOST_FIELDS:
        raise IsograftError(f"{file}: its member {name} has {len(fields):,} fields, more than {_MOST_FIELDS}; keep those that are needed")
    if "group" not in fields and "patient" in fields:
        fields["group"] = fields.pop("patient")
    columns: Columns = {}
    for key, value in fields.items():
        if isinstance(value, dict | list):
            if key in ROLES:
                raise IsograftError(f"{file}: the {key} in {name} is a {'list' if isinstance(value, list) else 'object'}; it must be text")
            continue
        column = f"json_{key}" if key in RESERVED and key not in ROLES else key
        cell = value if isinstance(value, str | None) else json.dumps(value)
        if not _writable(column) or not _writable(cell or ""):
            raise IsograftError(f"{file}: the field {key!r} in {name} holds text that is no Unicode; correct it")
        columns[column] = (cell.strip() or None) if cell is not None else None
    return columns


def _text(file: str, name: str, data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise IsograftError(f"{file}: its member {name} is no UTF-8 text; write it again") from None
    return text


def _writable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text
