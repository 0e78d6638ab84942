from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field, ValidationError

from isograft.options import choices, default_text, expectation, metavar, ordered_fields, python_type, sentence
from isograft.settings import POSITIONAL, Auto, DomainName, Duration, Settings


class Shared(Settings):
    """Options of a base class."""

    threads: int | None = Field(None, ge=1, description="Threads.")


class Example(Shared):
    """A settings class with one option of every kind."""

    domain: DomainName = Field("auto", description="Domain.")
    side: Annotated[int, Field(ge=8, le=2048)] | Auto = Field("auto", description="Side.")
    share: float = Field(0.2, ge=0, lt=1, description="Share.")
    time: Duration | None = Field(None, description="Time.")
    arguments: tuple[str, ...] = Field((), description="Arguments.")
    out: Path = Field(description="Out.")
    data: str = Field(description="Data.", json_schema_extra=POSITIONAL)
    strict: bool = Field(False, description="Strict.")


FIELDS = Example.model_fields


def test_fields_come_positional_first_then_required_then_own_then_shared():
    assert [name for name, _ in ordered_fields(Example)] == [
        "data",
        "out",
        "domain",
        "side",
        "share",
        "time",
        "arguments",
        "strict",
        "threads",
    ]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("side", "a whole number of at least 8 and at most 2048, or auto"),
        ("share", "a number of at least 0 and below 1"),
        ("time", "a duration such as 90s, 30m or 1h30m"),
        ("threads", "a whole number of at least 1"),
        ("domain", "one of auto, general, dermoscopy, histology, radiograph, grey"),
        ("out", "a path"),
        ("strict", "True or False"),
        ("arguments", "text, once or several times"),
    ],
)
def test_an_option_says_what_it_expects(name, words):
    assert expectation(FIELDS[name]) == words


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("side", 'int | Literal["auto"]'),
        ("time", "float | str | None"),
        ("arguments", "str | Sequence[str]"),
        ("out", "str | Path"),
        ("data", "str | Path | Manifest"),
        ("strict", "bool"),
    ],
)
def test_python_types_are_what_the_function_accepts(name, text):
    assert python_type(name, FIELDS[name]) == text


def test_placeholders_tell_numbers_paths_and_times_apart():
    shown = {name: metavar(FIELDS[name]) for name in FIELDS}
    assert shown == {
        "threads": "N", "domain": None, "side": "N|auto", "share": "X", "time": "TIME", "arguments": "TEXT", "out": "PATH", "data": "TEXT",
        "strict": None,
    }  # fmt: skip


def test_defaults_that_do_nothing_are_not_shown():
    assert [name for name in FIELDS if default_text(FIELDS[name]) is not None] == ["domain", "side", "share"]
    assert choices(FIELDS["domain"])[0] == "auto" and choices(FIELDS["side"]) == ()


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"side": 4}, "side is 4 but must be a whole number of at least 8 and at most 2048, or auto"),
        ({"side": "big"}, "side is 'big' but must be a whole number"),
        ({"time": "soon"}, "time: 'soon' is not a duration; write for example 90s, 30m or 1h30m"),
        ({"time": "0s"}, "time is '0s' but must be a duration"),
        ({"domain": "dermascopy"}, "did you mean dermoscopy?"),
        ({"tread": 2}, "there is no option tread; did you mean threads?"),
    ],
)
def test_a_validation_error_becomes_one_sentence(values, text):
    with pytest.raises(ValidationError) as caught:
        Example(out="o", data="d", **values)
    message = sentence(caught.value, Example, str)
    assert text in message and "\n" not in message
