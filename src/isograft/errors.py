"""The ways a command ends early, each with its exit code."""

from __future__ import annotations


class IsograftError(Exception):
    """Bad usage or bad input: one sentence that says what, where and what to do (exit code 2)."""

    exit_code = 2


class LeakageError(IsograftError):
    """Refused: a figure would rest on images the model, or an ancestor of it, has seen (exit code 3)."""

    exit_code = 3


class AuditFailed(IsograftError):  # noqa: N818  (it says what happened)
    """An audit found what `--fail-on` names (exit code 3)."""

    exit_code = 3


class RunInterrupted(IsograftError):  # noqa: N818  (an interruption is no error of the user's)
    """Stopped by the user after the state was saved; `--resume` continues (exit code 130)."""

    exit_code = 130
