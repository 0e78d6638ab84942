"""What pydantic finds wrong in a study, said with file, line and key."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from isograft.options import expectation, ordered_fields
from isograft.settings import Settings
from isograft.spelling import near, near_or_all
from isograft.study.lines import Document, Misplaced, Place

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_FURTHER = ("parameters", "presets")


def complaints(error: ValidationError, root: type[BaseModel], document: Document) -> str:
    """One sentence that names every mistake: `study.yaml, line 12: tasks.a.labl is no key; did you mean labels?; line 20: …`.

    Args:
        error: What pydantic found.
        root: The model that was validated.
        document: The file, with the line of every place.
    """
    found: dict[tuple[int, Place], str] = {}
    for detail in error.errors(include_url=False):
        place, text = _complaint(detail, root)
        found.setdefault((document.line(place), place), text)
    ordered = sorted(found.items(), key=lambda item: item[0][0])
    return f"{document.name}, " + "; ".join(f"line {line}: {text}" for (line, _), text in ordered)


def spelled(place: Place) -> str:
    """A place for people: `tasks.foot.data`; entries of lists count from 1: `labels_per_class, entry 2`."""
    words = [f", entry {part + 1}" if isinstance(part, int) else f".{part}" for part in place]
    return "".join(words).removeprefix(".")


def _complaint(detail: ErrorDetails, root: type[BaseModel]) -> tuple[Place, str]:
    place, field, model = _follow(detail["loc"], root)
    key = str(detail["loc"][len(place) - 1]) if place else ""
    if detail["type"] == "extra_forbidden":
        known = [*(model or root).model_fields, *(_FURTHER if model is root else ())]
        return place, f"{spelled(place)} is no key{near_or_all(key, known)}"
    if detail["type"] == "missing":
        description = field.description if field is not None else ""
        return place[:-1], f"{spelled(place[:-1]) or 'the study'} lacks {key}: {description}"
    if detail["type"] == "value_error":
        cause = detail["ctx"]["error"]
        place = (*place, *(cause.place if isinstance(cause, Misplaced) else ()))
        return place, f"{spelled(place)}: {cause}"
    annotation = field.annotation if field is not None else None
    expected = _expected(field) if field is not None else "text"
    return (
        place,
        f"{spelled(place)} {_shown(detail['input'])} but must be {expected}{near(str(detail['input']), list(_choices(annotation)))}",
    )


def _follow(location: tuple[int | str, ...], root: type[BaseModel]) -> tuple[Place, FieldInfo | None, type[BaseModel] | None]:
    """Where an error is, without pydantic's marks of unions; the field there, and the model that has the field."""
    place: Place = ()
    field: FieldInfo | None = FieldInfo.from_annotation(root)
    model: type[BaseModel] | None = None
    for part in location:
        annotation = field.annotation if field is not None else None
        kind = get_origin(annotation)
        if isinstance(annotation, type) and issubclass(annotation, Settings):
            model, field = annotation, annotation.model_fields.get(str(part))
        elif kind is dict:
            model, field = None, FieldInfo.from_annotation(get_args(annotation)[1])
        elif kind is tuple and isinstance(part, int):
            model, field = None, FieldInfo.from_annotation(get_args(annotation)[0])
        else:
            break
        place = (*place, part)
    return place, field, model


def _expected(field: FieldInfo) -> str:
    annotation = field.annotation
    if get_origin(annotation) is tuple:
        return f"a list, each {expectation(FieldInfo.from_annotation(get_args(annotation)[0]))}"
    if get_origin(annotation) is dict:
        return "a mapping of names" + (" with at least one entry" if field.is_required() else "")
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return f"a mapping with the keys {', '.join(name for name, _ in ordered_fields(annotation))}"
    return expectation(field)


def _shown(value: Any) -> str:
    if value is None or value in ({}, [], ()):
        return "is empty"
    if isinstance(value, dict):
        return "is a mapping"
    return "is a list" if isinstance(value, list | tuple) else f"is {value!r}"


def _choices(annotation: Any) -> Iterator[str]:
    """The words an annotation accepts anywhere in it."""
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif get_origin(annotation) in (Union, types.UnionType, Annotated):
        for part in get_args(annotation):
            yield from _choices(part)
