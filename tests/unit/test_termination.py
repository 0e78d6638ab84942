import os
import signal
import sys
import threading

import pytest

from isograft.cli import report
from isograft.errors import IsograftError, RunInterrupted, Terminated, interruption_code
from isograft.termination import ending_in_order


def raised(*links: BaseException) -> BaseException:
    """The last of some exceptions, each raised while the one before was handled, and hiding it."""
    try:
        if len(links) == 1:
            raise links[0]
        try:
            raise raised(*links[:-1])
        except BaseException:
            raise links[-1] from None
    except BaseException as error:
        return error


def test_an_interruption_has_the_code_of_the_signal_it_arose_from() -> None:
    assert interruption_code(raised(Terminated())) == 143
    assert interruption_code(raised(Terminated(), SystemExit(1), KeyboardInterrupt())) == 143
    assert interruption_code(raised(KeyboardInterrupt())) == 130
    assert RunInterrupted("stopped").exit_code == 130
    stopped = raised(Terminated(), RunInterrupted("stopped"))
    assert isinstance(stopped, RunInterrupted)
    assert stopped.exit_code == 143
    assert IsograftError("bad").exit_code == 2


def test_each_interruption_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert (report(KeyboardInterrupt()), report(Terminated()), report(RunInterrupted("stopped: add --resume"))) == (130, 143, 130)
    first, second, third = capsys.readouterr().err.splitlines()
    assert first == "isograft: interrupted"
    assert second.startswith("isograft: ended by SIGTERM; repeat the command")
    assert third == "isograft: stopped: add --resume"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signals")
def test_sigterm_unwinds_what_goes_on_sigusr1_is_passed_over_and_both_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    undone = []
    with pytest.raises(Terminated), ending_in_order():
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            undone.append(signal.getsignal(signal.SIGTERM))
    assert undone == [signal.SIG_DFL], "a second signal would not end the process"
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == before


def test_a_thread_leaves_the_signals_alone() -> None:
    entered = []

    def enter() -> None:
        with ending_in_order():
            entered.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join(60)
    assert entered == [before]
