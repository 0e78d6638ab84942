"""YAML with lines: what is read, what is refused, and where a mistake is said to be."""

from pathlib import Path
from typing import Any

import pytest

from isograft.errors import IsograftError
from isograft.study.lines import Document, read_document


@pytest.fixture
def read(tmp_path: Path):
    def reader(text: str) -> Document:
        path = tmp_path / "study.yaml"
        path.write_text(text, encoding="utf-8")
        return read_document(path)

    return reader


def test_every_value_knows_the_line_of_its_key_and_entries_of_lists_their_own(read) -> None:
    document = read("# a comment\na: 1\nb:\n  c:\n    - x\n    - y\n\nd: {e: 2}\n")
    assert document.data == {"a": 1, "b": {"c": ["x", "y"]}, "d": {"e": 2}}
    lines = {("a",): 2, ("b",): 3, ("b", "c"): 4, ("b", "c", 0): 5, ("b", "c", 1): 6, ("d",): 8, ("d", "e"): 8}
    assert {place: document.line(place) for place in lines} == lines


def test_a_place_that_is_not_there_has_the_line_of_the_nearest_one_around_it(read) -> None:
    document = read("title: x\nb:\n  c: 1\n")
    assert document.line(("b", "c", "nothing", 3)) == 3
    assert document.line(("b", "nothing")) == 2
    assert document.line(("nothing",)) == 1


def test_an_error_names_file_and_line(read, tmp_path: Path) -> None:
    error = read("a: 1\nb: 2\n").error(("b",), "b is wrong")
    assert str(error) == f"{tmp_path / 'study.yaml'}, line 2: b is wrong"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-2", -2),
        ("0.5", 0.5),
        ("1e-3", 0.001),
        ("1.", 1.0),
        ("~", None),
        ("null", None),
        ("", None),
        ("yes", "yes"),
        ("on", "on"),
        ("true", "true"),
        ("2021-01-01", "2021-01-01"),
        ("010", "010"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("e5", "e5"),
        ('"3"', "3"),
        (".", "."),
        ("-", None),
    ],
)
def test_only_numbers_and_null_are_more_than_text(read, text: str, value: Any) -> None:
    assert read(f"a: {text}\n").data["a"] == value if text != "-" else read("a:\n  -\n").data["a"] == [None]


def test_keys_are_text_whatever_they_look_like(read) -> None:
    assert read("10: a\nyes: b\n~: c\n").data == {"10": "a", "yes": "b", "~": "c"}


def test_anchors_and_merge_keys_are_followed_and_own_values_win(read) -> None:
    document = read("a: &a\n  x: 1\n  y: 2\nb:\n  <<: *a\n  y: 3\n")
    assert document.data["b"] == {"x": 1, "y": 3}
    assert (document.line(("b", "x")), document.line(("b", "y"))) == (2, 6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: a is given twice"),
        ("a: [1\nb: 2\n", "line 2: this is no YAML"),
        ("a: 1\n\tb: 2\n", "line 2: this is no YAML"),
        ("a: *nothing\n", "line 1: this is no YAML: found undefined alias 'nothing'"),
        ("a: 1\n---\nb: 2\n", "line 2: this is no YAML"),
        ("a: 1\n? [x]\n: 2\n", "line 2: a key must be a word"),
        ("a: &a [*a]\n", "an anchor .* refers to itself"),
        ("a: 1\nb: !!python/object/apply:os.system [ls]\n", "line 2: the tag .*os.system has no meaning here; leave it out"),
        ("a: !secret x\n", "line 1: .*!secret"),
        ("a: !!int x\n", "line 1: 'x' is not what its tag .* says"),
        ("a: 1\nb:\n  <<: 3\n", "line 3: .*expected a mapping"),
        ("a: \x00\n", "this is no YAML"),
    ],
)
def test_what_is_no_plain_yaml_is_refused_with_its_line(read, text: str, message: str) -> None:
    with pytest.raises(IsograftError, match=message) as caught:
        read(text)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named_with_a_way_on(tmp_path: Path) -> None:
    with pytest.raises(
        IsograftError, match=r"no\.yaml cannot be read: No such file or directory; isograft study --init FILE writes a template"
    ):
        read_document(tmp_path / "no.yaml")
    (tmp_path / "latin.yaml").write_bytes("title: Füße".encode("latin-1"))
    with pytest.raises(IsograftError, match="not UTF-8 text"):
        read_document(tmp_path / "latin.yaml")
