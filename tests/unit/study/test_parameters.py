"""Presets and parameters: what they change, and that a wrong one is named."""

from pathlib import Path
from typing import Any

import pytest

from isograft.errors import IsograftError
from isograft.study.lines import Document, read_document
from isograft.study.parameters import filled_in, with_preset

KEYS = ("title", "tasks", "arms", "repeats", "labels_per_class", "pretrain", "finetune", "parameters")
TEXT = """\
title: ${name} at ${size} px
parameters:
  name: skin
  size: 64
  budgets: [10, 25]
  secret:
tasks:
  a: {data: "${name}/a"}
  b: {data: "${name}/b"}
labels_per_class: ${budgets}
repeats: ${size}
pretrain:
  epochs: 50
  lr: 0.1
presets:
  fast:
    parameters: {size: 32}
    pretrain:
      epochs: 2
    tasks:
      a: {data: "${secret}"}
  other:
    finetune: {strategy: probe}
"""


def resolve(text: str, tmp_path: Path, preset: str | None = None, given: tuple[str, ...] = ()) -> Document:
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    document = read_document(path)
    return filled_in(with_preset(document, preset, KEYS), given, document.data)


@pytest.fixture
def resolved(tmp_path: Path):
    def resolver(preset: str | None = None, *given: str) -> Document:
        return resolve(TEXT, tmp_path, preset, given)

    return resolver


def test_a_parameter_is_its_value_alone_and_text_inside_text(resolved) -> None:
    data = resolved().data
    assert data["repeats"] == 64 and data["labels_per_class"] == [10, 25]
    assert data["title"] == "skin at 64 px" and data["tasks"]["b"]["data"] == "skin/b"
    assert not {"parameters", "presets"} & data.keys()


def test_what_is_given_comes_before_the_preset_and_the_preset_before_the_file(resolved) -> None:
    assert [resolved(*given).data["repeats"] for given in ((None,), ("fast", "secret=x"), ("fast", "secret=x", "size=16"))] == [64, 32, 16]


def test_a_preset_changes_fields_of_pretrain_and_whole_other_keys(resolved) -> None:
    data = resolved("fast", "secret=x").data
    assert data["pretrain"] == {"epochs": 2, "lr": 0.1}
    assert data["tasks"] == {"a": {"data": "x"}}
    assert resolved("other").data["finetune"] == {"strategy": "probe"}


def test_the_lines_of_what_a_preset_changed_are_those_of_the_preset(resolved) -> None:
    document = resolved("fast", "secret=x")
    assert (document.line(("pretrain", "epochs")), document.line(("pretrain", "lr"))) == (19, 14)
    assert (document.line(("tasks", "a")), document.line(("tasks",))) == (21, 20)
    assert resolved().line(("pretrain", "epochs")) == 13


def test_the_file_that_was_read_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(TEXT, encoding="utf-8")
    document = read_document(tmp_path / "study.yaml")
    before = (repr(document.data), dict(document.lines))
    filled_in(with_preset(document, "fast", KEYS), ("secret=x",), document.data)
    assert (repr(document.data), document.lines) == before


@pytest.mark.parametrize(
    ("given", "value"), [("size=8", 8), ("size=0.5", 0.5), ("budgets=[5]", [5]), ("budgets=[5, all]", [5, "all"]), ("name=7", "7")]
)
def test_a_given_value_is_read_as_the_kind_of_its_default(resolved, given: str, value: Any) -> None:
    data = resolved(None, given).data
    assert value in (data["repeats"], data["labels_per_class"]) or data["title"] == f"{value} at 64 px"


def test_a_given_text_may_hold_anything(resolved) -> None:
    assert resolved(None, "name=a=b: [c]").data["tasks"]["a"]["data"] == "a=b: [c]/a"


@pytest.mark.parametrize(
    ("preset", "given", "message"),
    [
        ("fst", (), "has no preset fst; did you mean fast?"),
        ("zzz", (), "has no preset zzz; there are fast, other"),
        ("fast", (), "line 21: the parameter secret has no default; give --param secret=VALUE"),
        (None, ("nme=x",), r"--param nme=x: .* has no parameter nme; did you mean name\?"),
        (None, ("size=big",), "--param size=big: size must be a number, like its default 64"),
        (None, ("size=true",), "size must be a number"),
        (None, ("budgets=5",), r"budgets must be a list such as \[10, 25\], like its default"),
    ],
)
def test_a_wrong_preset_or_parameter_is_named(resolved, preset: str | None, given: tuple[str, ...], message: str) -> None:
    with pytest.raises(IsograftError, match=message) as caught:
        resolved(preset, *given)
    assert "study.yaml" in str(caught.value) or given


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  fast:\n", "  fast:\n    repeat: 3\n", r"line 17: presets.fast.repeat is no key; did you mean repeats\?"),
        ("presets:\n", "presets:\n  empty: 3\n", "line 16: presets.empty must be a mapping of the keys it changes"),
        ("  size: 64\n", "  size: 64\n  idle: 1\n", r"line 5: parameters.idle is used nowhere; write \$\{idle\}"),
        ("  size: 64\n", "  size: {a: 1}\n", "line 4: parameters.size must be text, a number or a list"),
        ("  size: 64\n", "  my-size: 64\n", "line 4: parameters.my-size: a name consists of letters, digits and _"),
        ("${name}/a", "${nme}/a", r"line 8: there is no parameter nme; did you mean name\?"),
        ("${name}/a", "${budgets}/a", "line 8: the parameter budgets is a list and cannot stand inside the text"),
        ("parameters:\n", "parameters: [a]\nx:\n", "line 2: parameters must be a mapping of names, each with its default"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(IsograftError, match=message):
        resolve(TEXT.replace(old, new), tmp_path)


def test_a_file_without_presets_and_parameters_says_so(tmp_path: Path) -> None:
    with pytest.raises(IsograftError, match="has no preset fast; it has none"):
        resolve("title: x\n", tmp_path, "fast")
    with pytest.raises(IsograftError, match="has no parameter a; it has none"):
        resolve("title: x\n", tmp_path, None, ("a=1",))
    with pytest.raises(IsograftError, match="line 1: there is no parameter a; declare it under parameters"):
        resolve("title: ${a}\n", tmp_path)
