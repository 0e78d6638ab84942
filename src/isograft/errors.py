"""The ways a command ends early, each with its exit code."""

from __future__ import annotations

from isograft.urls import without_secrets


class IsograftError(Exception):
    """Bad usage or bad input: one sentence that says what, where and what to do (exit code 2).

    The query strings and passwords of URLs are taken out of the sentence.
    """

    exit_code = 2

    def __init__(self, *told: object) -> None:
        super().__init__(*(without_secrets(one) if isinstance(one, str) else one for one in told))


class Unreachable(IsograftError):  # noqa: N818  (it says what a place is)
    """What lies behind a URL cannot be had.

    Attributes:
        reason: Why, without the place.
        gone: Whether the server answered that there is no such thing, so that asking again is of no use.
    """

    def __init__(self, place: str, reason: str, gone: bool = False) -> None:
        remedy = "correct the address" if gone else "check the network, the address and your credentials, then run the command again"
        super().__init__(f"{place} cannot be fetched: {reason}; {remedy}")
        self.reason = without_secrets(reason)
        self.gone = gone

    @property
    def status(self) -> str:
        """One word: `missing` or `unreachable`."""
        return "missing" if self.gone else "unreachable"


class LeakageError(IsograftError):
    """Refused: a figure would rest on images the model, or an ancestor of it, has seen (exit code 3)."""

    exit_code = 3


class AuditFailed(IsograftError):  # noqa: N818  (it says what happened)
    """An audit found what `--fail-on` names (exit code 3)."""

    exit_code = 3


class Diverged(IsograftError):  # noqa: N818  (it says what happened)
    """The loss or the weights of a training are no numbers any more."""


class ToldElsewhere(IsograftError):  # noqa: N818  (it says who speaks)
    """What another process of the same training says to the user: this one ends without a word, with the same exit code."""

    def __init__(self, told: str, exit_code: int) -> None:
        super().__init__(told)
        self.exit_code = exit_code


class RunInterrupted(IsograftError):  # noqa: N818  (an interruption is no error of the user's)
    """Stopped after the state was saved; `--resume` continues (exit code 130 after Ctrl-C, 143 after SIGTERM)."""

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # (what it arose from is known later than the class)
        """128 plus the number of the signal."""
        return interruption_code(self)


class Terminated(KeyboardInterrupt):
    """SIGTERM came, as job schedulers send it: the command ends as it does at Ctrl-C, with exit code 143."""


def interruption_code(error: BaseException | None) -> int:
    """The exit code of an interruption: 143 where SIGTERM is what it arose from, otherwise 130."""
    while error is not None:
        if isinstance(error, Terminated):
            return 143
        error = error.__cause__ or error.__context__
    return 130
