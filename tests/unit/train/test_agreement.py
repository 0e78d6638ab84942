"""What a process that is alone agrees on: at once, what it is asked for. Several are tested in tests/integration."""

from __future__ import annotations

import pytest

from isograft.errors import Diverged, IsograftError
from isograft.train import agreement


def test_alone_everything_is_done_here() -> None:
    assert agreement.on_first(lambda: [1]) == [1]
    assert agreement.on_first_of_machine(lambda: 2) == 2
    assert agreement.any_of(True) and not agreement.any_of(False)
    assert agreement.largest_of(3) == 3
    assert agreement.mean_of({"loss": 0.5}) == {"loss": 0.5}


def test_alone_a_problem_is_raised_as_it_is() -> None:
    def fails() -> int:
        raise Diverged("no number")

    with pytest.raises(Diverged, match="no number"):
        agreement.on_first(fails)
    with pytest.raises(IsograftError, match="full"):
        agreement.all_or_none(IsograftError("full"))
    agreement.all_or_none(None)


def test_alone_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    for name in ("all_reduce", "broadcast", "get_rank", "get_world_size"):
        monkeypatch.setattr(agreement.dist, name, lambda *_, name=name, **__: asked.append(name))
    agreement.require_same("a", "list of images")
    agreement.all_or_none(None)
    assert (agreement.on_first(lambda: 1), agreement.any_of(False), asked) == (1, False, [])
