"""Presets and parameters of a study: what a run of it may change without editing the file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from isograft.errors import IsograftError
from isograft.spelling import near_or_all
from isograft.study.lines import Document, Place

MERGED = ("parameters", "pretrain", "finetune")
"""Keys of which a preset changes the fields it names; any other key of a preset takes the place of the file's own."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_USE = re.compile(r"\$\{([^}]*)\}")


def with_preset(document: Document, preset: str | None, keys: Sequence[str]) -> Document:
    """Apply a preset and drop all of them.

    Args:
        document: The file; its content is a mapping.
        preset: The name of the preset; None applies none.
        keys: What a preset may hold.

    Raises:
        IsograftError: There is no such preset, or a preset holds what no study has.
    """
    data = dict(document.data)
    presets = _mapping(document, data.pop("presets", None), ("presets",), "preset names, each with the keys it changes")
    for name in presets:
        changes = _mapping(document, presets[name], ("presets", name), "the keys it changes")
        for key in changes:
            if key not in keys:
                raise document.error(("presets", name, key), f"presets.{name}.{key} is no key{near_or_all(key, keys)}")
    if preset is None:
        return Document(document.name, data, document.lines)
    if preset not in presets:
        raise IsograftError(f"{document.name} has no preset {preset}{near_or_all(preset, presets) or '; it has none'}")
    lines = dict(document.lines)
    for key, value in presets[preset].items():
        place: Place = ("presets", preset, key)
        if key in MERGED and isinstance(value, dict) and isinstance(data.get(key), dict):
            data[key] = {**data[key], **value}
            for field in value:
                _move(lines, (*place, field), (key, field))
        else:
            data[key] = value
            _move(lines, place, (key,))
    return Document(document.name, data, lines)


def filled_in(document: Document, given: Sequence[str], whole: Any) -> Document:
    """Put the values of the parameters in place of `${name}`.

    A text that is nothing but `${name}` becomes the value itself, a number or a list too.

    Args:
        document: The file with its preset applied.
        given: `name=value`, in place of the file's defaults.
        whole: The content of the whole file: a parameter must be used somewhere in it.

    Raises:
        IsograftError: A parameter is unknown, unused, without a value, or of another kind than its default.
    """
    data = dict(document.data)
    place: Place = ("parameters",)
    values = dict(_mapping(document, data.pop("parameters", None), place, "names, each with its default"))
    used = {name for key, value in whole.items() if key != "parameters" for name in _uses(value)}
    for name, value in values.items():
        if not _NAME.fullmatch(name):
            raise document.error((*place, name), f"parameters.{name}: a name consists of letters, digits and _, and begins with no digit")
        if isinstance(value, dict):
            raise document.error((*place, name), f"parameters.{name} must be text, a number or a list")
        if name not in used:
            raise document.error((*place, name), f"parameters.{name} is used nowhere; write ${{{name}}} where its value belongs")
    for pair in given:
        name, _, text = pair.partition("=")
        if name not in values:
            hint = near_or_all(name, values) or "; it has none"
            raise IsograftError(f"--param {pair}: {document.name} has no parameter {name}{hint}")
        values[name] = _given(name, text, values[name])
    return Document(document.name, _put(data, (), values, document), document.lines)


def _mapping(document: Document, value: Any, place: Place, what: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise document.error(place, f"{'.'.join(map(str, place))} must be a mapping of {what}")
    return value


def _move(lines: dict[Place, int], source: Place, target: Place) -> None:
    """Let the lines of `source` stand for `target`."""
    for place in [place for place in lines if place[: len(target)] == target]:
        del lines[place]
    lines.update({(*target, *place[len(source) :]): line for place, line in lines.items() if place[: len(source)] == source})


def _given(name: str, text: str, default: Any) -> Any:
    """A value from the command line, read as the kind of value its default is."""
    if default is None or isinstance(default, str):
        return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    kinds = (int, float) if isinstance(default, int | float) else (list,)
    if isinstance(value, bool) or not isinstance(value, kinds):
        kind = "a list such as [10, 25]" if kinds == (list,) else "a number"
        raise IsograftError(f"--param {name}={text}: {name} must be {kind}, like its default {default}")
    return value


def _uses(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _uses(item)
    elif isinstance(value, list):
        for item in value:
            yield from _uses(item)
    elif isinstance(value, str):
        yield from _USE.findall(value)


def _put(value: Any, place: Place, values: dict[str, Any], document: Document) -> Any:
    if isinstance(value, dict):
        return {key: _put(item, (*place, key), values, document) for key, item in value.items()}
    if isinstance(value, list):
        return [_put(item, (*place, index), values, document) for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    for name in _USE.findall(value):
        if name not in values:
            hint = near_or_all(name, values) or "; declare it under parameters"
            raise document.error(place, f"there is no parameter {name}{hint}")
        if values[name] is None:
            raise document.error(place, f"the parameter {name} has no default; give --param {name}=VALUE")
    if (whole := _USE.fullmatch(value)) is not None:
        return values[whole[1]]
    for name in _USE.findall(value):
        if isinstance(values[name], list):
            raise document.error(place, f"the parameter {name} is a list and cannot stand inside the text '{value}'")
    return _USE.sub(lambda match: str(values[match[1]]), value)
