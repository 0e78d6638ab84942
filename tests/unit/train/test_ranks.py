"""How several processes meet, and which of them speaks when they end."""

from __future__ import annotations

import pytest

from isograft import cli, console
from isograft.errors import IsograftError, RunInterrupted, ToldElsewhere
from isograft.train import ranks
from isograft.train.launch import Ranks


class RunFailed(IsograftError):
    exit_code = 3


def test_alone_lightning_looks_for_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ranks.lightning_options() == {"devices": 1}
    for name, value in {"SLURM_NTASKS": "8", "SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "train", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    assert [plugin.creates_processes_externally for plugin in ranks.lightning_plugins()] == [False]


class Store:
    """A meeting place that counts who has failed."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, key: str, by: int) -> int:
        self.count += by
        return self.count


def test_of_processes_that_fail_one_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "_store", Store())
    broken = RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer")
    problems = [RunFailed("no such file"), RunFailed("no such file"), broken]
    said = [ranks._said_once(problem, Ranks(rank, 3)) for rank, problem in enumerate(problems)]
    assert [type(one) for one in said] == [RunFailed, ToldElsewhere, ToldElsewhere]
    assert said[1].exit_code == RunFailed.exit_code


def test_a_process_that_ends_without_a_word_is_told_by_one_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "_store", Store())
    broken = RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer")
    said = [ranks._said_once(broken, Ranks(rank, 3)) for rank in (1, 2)]
    assert "ended without a word" in str(said[0]) and isinstance(said[1], ToldElsewhere)


def test_a_mistake_in_the_program_is_no_loss_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "_store", Store())
    mistake = RuntimeError("shapes do not match")
    assert ranks._said_once(mistake, Ranks(1, 2)) is mistake


def test_a_stop_is_told_by_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    said = [ranks._said_once(RunInterrupted("stopped"), Ranks(rank, 2)) for rank in (1, 0)]
    assert [type(one) for one in said] == [ToldElsewhere, RunInterrupted] and said[0].exit_code == 130


def test_what_another_process_says_is_not_said_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.report(ToldElsewhere("stopped", 130)) == 130
    with console.silent():
        console.say("never")
        console.warn("never")
        with console.Progress(1, "never"):
            pass
    assert capsys.readouterr().err == ""
