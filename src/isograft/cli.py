"""The command line: one command per verb, generated from its settings class."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError
from pydantic.fields import FieldInfo

from isograft._version import __version__
from isograft.errors import IsograftError
from isograft.options import choices, default_text, metavar, ordered_fields, positional, repeatable, spelled
from isograft.settings import flag
from isograft.urls import without_secrets
from isograft.verbs import VERBS, Verb

TRACEBACK = "--traceback"
ABOUT = f"""Same-domain transfer learning for medical images with few labels.

Exit codes: 0 done, 2 bad usage or bad input, 3 refused for leakage, 130 interrupted with the state saved.
{TRACEBACK} after any command shows where in the code an error arose."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    traceback = TRACEBACK in tokens
    try:
        code = run([token for token in tokens if token != TRACEBACK])
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 0
    except (IsograftError, CycloptsError, KeyboardInterrupt, OSError, MemoryError, RuntimeError) as error:
        defect = isinstance(error, RuntimeError) and not out_of_gpu_memory(error)
        if traceback or defect:
            raise
        code = report(error)
    raise SystemExit(code)


def run(tokens: list[str]) -> int:
    """Run one command.

    Raises:
        CycloptsError: The command line cannot be understood.
        IsograftError: A setting or the input is wrong.
    """
    build_app()(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    return 0


def report(error: BaseException) -> int:
    """Say on stderr what went wrong, in one sentence, and return the exit code."""
    if isinstance(error, IsograftError):
        text, code = str(error), error.exit_code
    elif isinstance(error, CycloptsError):
        text, code = usage_sentence(error), 2
    elif isinstance(error, KeyboardInterrupt):
        text, code = "interrupted", 130
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


def usage_sentence(error: CycloptsError) -> str:
    """What cyclopts could not understand, on one line, with the command's own help as the way on."""
    chain = " ".join(error.command_chain or ())
    if isinstance(error, UnusedCliTokensError):
        return f"{chain} has no place for {' '.join(map(repr, error.unused_tokens or ()))} (see isograft {chain} --help)"
    return f"{str(error).strip()} (see isograft {chain + ' ' if chain else ''}--help)"


def build_app() -> App:
    """The application with one command per verb."""
    app = App(name="isograft", help=ABOUT, help_format="plaintext", version=__version__, suppress_keyboard_interrupt=False)
    for verb in VERBS.values():
        app.command(_command(verb), name=verb.name)
    return app


def _command(verb: Verb) -> Callable[..., None]:
    """The function behind one command: it checks the settings before anything heavy is imported."""
    signature = _signature(verb)
    places = [name for name, parameter in signature.parameters.items() if parameter.kind is parameter.POSITIONAL_ONLY]

    def command(*positionals: Any, **options: Any) -> None:
        given = dict(zip(places, positionals, strict=False)) | options
        verb.run(verb.build(given, lambda name: spelled(verb.settings, name)))

    command.__name__ = verb.name
    command.__doc__ = verb.summary
    command.__signature__ = signature  # type: ignore[attr-defined]
    return command


def _signature(verb: Verb) -> inspect.Signature:
    """The signature from which cyclopts reads the options."""
    parameters = []
    for name, field in ordered_fields(verb.settings):
        kind = inspect.Parameter.POSITIONAL_ONLY if positional(field) else inspect.Parameter.KEYWORD_ONLY
        default, hint = _token_default(field)
        annotation: Any = Annotated[hint, _parameter(name, field)]
        parameters.append(inspect.Parameter(name, kind, default=default, annotation=annotation))
    return inspect.Signature(parameters)


def _parameter(name: str, field: FieldInfo) -> Parameter:
    names = name.upper() if positional(field) else flag(name)
    shown = default_text(field) is not None
    return Parameter(name=names, help=field.description, negative=(), show_default=shown, metavar=metavar(field))


def _token_default(field: FieldInfo) -> tuple[Any, Any]:
    """The default and the type cyclopts sees: words stay words, so that pydantic alone judges them and says what is wrong."""
    hint: Any = str
    if repeatable(field):
        hint = tuple[str, ...]
    elif field.annotation is bool or choices(field):
        hint = field.annotation
    if field.is_required():
        return inspect.Parameter.empty, hint
    if field.default is None:
        return None, str | None
    return (str(field.default) if hint is str else field.default), hint
