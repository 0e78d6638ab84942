"""The command `isograft`: how it begins, and how it ends.

What needs no options is answered here, without the libraries that read them: the version, and a command that does not exist.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext

from isograft import console
from isograft._version import __version__
from isograft.errors import IsograftError, ToldElsewhere, interruption_code
from isograft.spelling import near_or_all
from isograft.termination import ending_in_order
from isograft.urls import without_secrets
from isograft.verbs import VERBS

TRACEBACK = "--traceback"
HELP = ("--help", "-h")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    traceback = TRACEBACK in tokens
    try:
        with nullcontext() if tokens[:1] == ["serve"] else ending_in_order():  # the server has an orderly end of its own
            code = run([token for token in tokens if token != TRACEBACK])
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 0
    except (IsograftError, KeyboardInterrupt, OSError, MemoryError, RuntimeError) as error:
        defect = isinstance(error, RuntimeError) and not out_of_gpu_memory(error)
        if traceback or defect:
            raise
        code = report(error)
    raise SystemExit(code)


def run(tokens: list[str]) -> int:
    """Run one command.

    Raises:
        IsograftError: The command line cannot be understood, or a setting or the input is wrong.
    """
    if tokens == ["--version"]:
        console.result(__version__)
        return 0
    first = tokens[0] if tokens else "--help"
    if first not in VERBS and first not in HELP:
        kind, known = ("option", ["--help", "--version"]) if first.startswith("-") else ("command", list(VERBS))
        raise IsograftError(f"there is no {kind} {first!r}{near_or_all(first, known)} (see isograft --help)")

    if "WORLD_SIZE" in os.environ or "SLURM_STEP_NUM_TASKS" in os.environ:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # read when torch is loaded; every process would warn of its own
    from isograft.commands import dispatch

    dispatch(tokens, first if first in VERBS else None)
    return 0


def report(error: BaseException) -> int:
    """Say on stderr what went wrong, in one sentence, and return the exit code."""
    if isinstance(error, ToldElsewhere):
        return error.exit_code
    if isinstance(error, IsograftError):
        text, code = str(error), error.exit_code
    elif isinstance(error, KeyboardInterrupt):
        code = interruption_code(error)
        text = "interrupted" if code == 130 else "ended by SIGTERM; repeat the command, with --resume where --out holds an unfinished run"
    elif isinstance(error, OSError):
        where = f": {error.filename}" if error.filename is not None else ""
        text, code = f"{error.strerror or error}{where} (add {TRACEBACK} to see where this arose)", 2
    else:
        text, code = "there is not enough memory; use a smaller --batch-size or --image-size", 2
    print(f"isograft: {without_secrets(' '.join(text.split()))}", file=sys.stderr)  # noqa: T201
    return code


def out_of_gpu_memory(error: BaseException) -> bool:
    """Whether torch says that the GPU's memory is full; told by the name of its class, so that torch need not be imported."""
    return any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
