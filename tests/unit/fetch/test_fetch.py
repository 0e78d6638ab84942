from __future__ import annotations

import io
import sys

import pytest

from isograft.cli import main
from isograft.errors import IsograftError
from isograft.fetch.catalogue import pool_named, pools
from isograft.fetch.fetch import agree
from isograft.fetch.medmnist import image_name


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["fetch", *words])
    return caught.value.code


def test_without_a_name_the_pools_are_listed(capsys) -> None:
    assert run() == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(pools())


def test_without_agreement_nothing_is_made_and_the_licence_is_shown(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    for name in pools():
        assert run(name, "--out", str(tmp_path / "o")) == 2
        said = capsys.readouterr().err
        assert "--accept-licence" in said and "Cite:" in said and pools()[name].licences[0] in said
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(("answer", "goes_on"), [("y\n", True), ("yes\n", True), ("n\n", False), ("\n", False), ("", False)])
def test_on_a_terminal_only_a_yes_goes_on(monkeypatch, answer, goes_on) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    monkeypatch.setattr(sys, "stderr", Terminal())
    if goes_on:
        agree(pool_named("isic"), accepted=False)
    else:
        with pytest.raises(IsograftError, match="not agreed"):
            agree(pool_named("isic"), accepted=False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("dermamist", "--out", "o"), "did you mean dermamnist"),
        (("organmnist3d", "--out", "o"), "volumes"),
        (("isic",), "--out is required"),
        (("--limit", "3"), "--limit 3 would be unused"),
        (("dermamnist", "--out", "o", "--query", "x"), "--query x would be unused"),
        (("dermamnist", "--out", "o", "--image-size", "32"), "28, 64, 128, 224"),
        (("isic", "--out", ".", "--accept-licence"), "choose another --out"),
    ],
)
def test_a_wrong_request_is_one_sentence(words, said, capsys, tmp_path, monkeypatch) -> None:
    (tmp_path / "other").touch()
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 2
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_image_names_are_in_order() -> None:
    assert image_name("train", 12) == "images/train/000012.png"
