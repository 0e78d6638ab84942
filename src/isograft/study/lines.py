"""YAML that remembers its lines, so that a mistake in a study is named with the place where it stands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from isograft.errors import IsograftError

Place = tuple[str | int, ...]
"""Where a value stands: the keys and list positions that lead to it."""


class Misplaced(ValueError):  # noqa: N818  (it says what a value is)
    """A wrong value somewhere inside what was checked.

    Args:
        place: Where, as seen from what was checked.
        text: What is wrong and what to do.
    """

    def __init__(self, place: Place, text: str) -> None:
        super().__init__(text)
        self.place = place


@dataclass(frozen=True)
class Document:
    """The content of a YAML file and the line of each of its values.

    Attributes:
        name: The file as the user named it.
        data: Mappings, lists, text, numbers and None.
        lines: The line, from 1, of each place.
    """

    name: str
    data: Any
    lines: dict[Place, int]

    def line(self, place: Sequence[str | int]) -> int:
        """The line of a place, or of the nearest one around it that is known."""
        parts = tuple(place)
        while parts and parts not in self.lines:
            parts = parts[:-1]
        return self.lines.get(parts, 1)

    def error(self, place: Sequence[str | int], text: str) -> IsograftError:
        """The error that says what is wrong in which line of which file."""
        return IsograftError(f"{self.name}, line {self.line(place)}: {text}")


def read_document(path: Path) -> Document:
    """Read a YAML file of one document.

    Only whole numbers, decimal numbers and null are more than text: `yes`, `on` and dates stay what they are, as
    names of classes and folders may look like that.

    Raises:
        IsograftError: The file cannot be read, is no YAML, or gives a key twice.
    """
    try:
        loader = _Loader(path.read_text(encoding="utf-8-sig"))
        node = loader.get_single_node()
    except OSError as error:
        raise IsograftError(
            f"the study {path} cannot be read: {error.strerror or error}; isograft study --init FILE writes a template"
        ) from error
    except UnicodeDecodeError:
        raise IsograftError(f"the study {path} is not UTF-8 text; save it as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise IsograftError(f"{path}{where}: this is no YAML: {error.problem or error.context}; check indentation and quotes") from None
    except yaml.YAMLError as error:
        raise IsograftError(f"{path}: this is no YAML: {str(error).splitlines()[0]}") from None
    document = Document(str(path), None, {(): 1})
    try:
        data = _Reader(loader, document).convert(node, ()) if node is not None else None
    except RecursionError:
        raise IsograftError(f"{path}: an anchor (&name) refers to itself") from None
    except yaml.MarkedYAMLError as error:  # a merge key without a mapping
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        raise IsograftError(f"{path}, line {line}: {error.problem or error}") from None
    return Document(document.name, data, document.lines)


class _Loader(yaml.SafeLoader):
    """Knows numbers as people write them (YAML 1.2), null and merge keys; everything else is text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (yaml's own way to say so)


_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:[0-9]*\.[0-9]+|[0-9]+\.|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(?:~|null)?$"), ["~", "n", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"<<$"), ["<"])


_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "null", "map", "seq")}


@dataclass(frozen=True)
class _Reader:
    """Turns nodes into values and notes their lines."""

    loader: _Loader
    document: Document

    def convert(self, node: yaml.Node, place: Place) -> Any:
        self.document.lines.setdefault(place, node.start_mark.line + 1)
        if node.tag not in _TAGS:
            raise self._at(node, f"the tag {node.tag} has no meaning here; leave it out")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.convert(child, (*place, index)) for index, child in enumerate(node.value)]
        try:
            return self.loader.construct_object(node)
        except ValueError:
            raise self._at(node, f"'{node.value}' is not what its tag {node.tag} says; leave the tag out") from None

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._at(key, "a key must be a word")
            if key.value in seen:
                raise self._at(key, f"{key.value} is given twice; keep one")
            seen.add(key.value)
        self.loader.flatten_mapping(node)
        content: dict[str, Any] = {}
        for key, value in node.value:
            self.document.lines[(*place, key.value)] = key.start_mark.line + 1
            content[key.value] = self.convert(value, (*place, key.value))
        return content

    def _at(self, node: yaml.Node, text: str) -> IsograftError:
        return IsograftError(f"{self.document.name}, line {node.start_mark.line + 1}: {text}")
