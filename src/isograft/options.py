"""How an option reads to people: its Python type, what it expects, and what is wrong with a value.

Everything here is derived from the settings classes; no text about an option is kept elsewhere.
"""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from isograft.settings import NEW_FILE, POSITIONAL, Settings, flag, parse_duration
from isograft.spelling import near

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

# Options that, in Python, also take what another verb returned.
RETURNED = {"data": "Manifest", "val": "Manifest", "input": "Manifest", "model": "Model", "init": "Model"}

_NUMBERS = {int: "a whole number", float: "a number"}
_WORDS = {str: "text", bool: "True or False", Path: "a path"}
_BOUNDS = ((annotated_types.Ge, "ge", "of at least"), (annotated_types.Gt, "gt", "above"), (annotated_types.Le, "le", "at most"))
_UPPER = (annotated_types.Lt, "lt", "below")


def positional(field: FieldInfo) -> bool:
    """Whether the option is given by its place, not by its name."""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and POSITIONAL.items() <= extra.items()


def new_file(field: FieldInfo) -> bool:
    """Whether the option names a file that is written, and so never what another verb returned."""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and NEW_FILE.items() <= extra.items()


def repeatable(field: FieldInfo) -> bool:
    """Whether the option takes several values."""
    return get_origin(field.annotation) is tuple


def ordered_fields(settings: type[Settings]) -> list[tuple[str, FieldInfo]]:
    """The fields of a settings class as people meet them: positional first, then required, then the class's own, then shared ones."""
    own = inspect.get_annotations(settings)
    rows = [(not positional(field), not field.is_required(), name not in own, name, field) for name, field in settings.model_fields.items()]
    return [(row[3], row[4]) for row in sorted(rows, key=lambda row: row[:3])]


def spelled(settings: type[Settings], name: str) -> str:
    """How the command line names a field: `DATA` when positional, `--image-size` otherwise."""
    field = settings.model_fields.get(name)
    return name.upper() if field is not None and positional(field) else flag(name)


def python_type(name: str, field: FieldInfo) -> str:
    """The type the Python function accepts for an option, as source text."""
    parts = list(dict.fromkeys(_type_parts(field.annotation)))
    if name in RETURNED and not new_file(field):
        parts = ["str", "Path", RETURNED[name], *(part for part in parts if part == "None")]
    return " | ".join(parts)


def expectation(field: FieldInfo) -> str:
    """What the option accepts, in words: `a whole number of at least 1, or auto`."""
    parts = list(_words(field.annotation, field.metadata))
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])}, or {parts[-1]}"


def choices(field: FieldInfo) -> tuple[str, ...]:
    """The words an option accepts, when it accepts nothing else."""
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()


def metavar(field: FieldInfo) -> str | None:
    """What stands for the value in a help page (`N`, `PATH`, `SECONDS`), or None for the words of a choice and for switches."""
    if choices(field) or field.annotation is bool:
        return None
    words = expectation(field)
    kinds = (("a path", "PATH"), ("a whole number", "N"), ("a number", "X"), ("a duration", "TIME"))
    name = next((short for long, short in kinds if words.startswith(long)), "TEXT")
    return f"{name}|auto" if words.endswith("or auto") else name


def default_text(field: FieldInfo) -> str | None:
    """The default for people, or None when the option is required or its default is to do nothing."""
    if field.is_required() or field.default is None or field.default in ((), False):
        return None
    return str(field.default)


def sentence(error: ValidationError, settings: type[Settings], spell: Callable[[str], str]) -> str:
    """Turn a pydantic error into one sentence that names the option, the value, and what was expected."""
    found: dict[str, str] = {}
    for detail in error.errors(include_url=False):
        name = str(detail["loc"][0]) if detail["loc"] else ""
        found.setdefault(name, _complaint(name, detail, settings, spell))
    return "; ".join(found.values())


def _complaint(name: str, detail: ErrorDetails, settings: type[Settings], spell: Callable[[str], str]) -> str:
    if detail["type"] == "value_error" and not name:
        return str(detail["ctx"]["error"])
    if detail["type"] == "extra_forbidden":
        known = [spell(other) for other in settings.model_fields]
        return f"there is no option {spell(name)}{near(spell(name), known)}"
    field = settings.model_fields[name]
    if detail["type"] == "missing":
        return f"{spell(name)} is required: {field.description}"
    if detail["type"] == "value_error":
        return f"{spell(name)}: {detail['ctx']['error']}"
    value = detail["input"]
    return f"{spell(name)} is {value!r} but must be {expectation(field)}{near(str(value), list(choices(field)))}"


def _union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _type_parts(annotation: Any) -> Iterator[str]:
    """Yield the alternatives of an annotation as source text."""
    if _union(annotation):
        for part in get_args(annotation):
            yield from _type_parts(part)
    elif get_origin(annotation) is Annotated:
        base, *metadata = get_args(annotation)
        yield from ("float", "str") if _is_duration(metadata) else _type_parts(base)
    elif get_origin(annotation) is Literal:
        yield f"Literal[{', '.join(json.dumps(word) for word in get_args(annotation))}]"
    elif get_origin(annotation) is tuple:
        item = " | ".join(dict.fromkeys(_type_parts(get_args(annotation)[0])))
        yield from (*item.split(" | "), f"Sequence[{item}]")
    elif annotation is Path:
        yield from ("str", "Path")
    else:
        yield "None" if annotation is type(None) else annotation.__name__


def _words(annotation: Any, metadata: list[Any]) -> Iterator[str]:
    """Yield the alternatives of an annotation in words; `metadata` carries the bounds."""
    if _is_duration(metadata):
        yield "a duration such as 90s, 30m or 1h30m"
    elif _union(annotation):
        for part in get_args(annotation):
            if part is not type(None):
                yield from _words(part, metadata)
    elif get_origin(annotation) is Annotated:
        base, *inner = get_args(annotation)
        bounds = [item for entry in inner for item in (entry.metadata if isinstance(entry, FieldInfo) else [entry])]
        yield from _words(base, bounds)
    elif get_origin(annotation) is Literal:
        words = get_args(annotation)
        yield words[0] if len(words) == 1 else f"one of {', '.join(words)}"
    elif get_origin(annotation) is tuple:
        yield " or ".join(_words(get_args(annotation)[0], [])) + ", once or several times"
    elif annotation in _NUMBERS:
        yield _NUMBERS[annotation] + _bounds(metadata)
    else:
        yield _WORDS[annotation]


def _bounds(metadata: list[Any]) -> str:
    texts = [
        f"{word} {getattr(item, attribute):g}"
        for kind, attribute, word in (*_BOUNDS, _UPPER)
        for item in metadata
        if isinstance(item, kind)
    ]
    return f" {' and '.join(texts)}" if texts else ""


def _is_duration(metadata: list[Any]) -> bool:
    return any(isinstance(item, BeforeValidator) and item.func is parse_duration for item in metadata)
