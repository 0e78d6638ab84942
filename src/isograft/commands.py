"""One cyclopts command per verb, generated from its settings class: reads the options, shows their help."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError

from isograft._version import __version__
from isograft.errors import IsograftError
from isograft.verbs import VERBS, Verb

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

ABOUT = """Same-domain transfer learning for medical images with few labels.

Exit codes: 0 done, 2 bad usage or bad input, 3 refused for leakage, 130 interrupted (143 by SIGTERM) with the state saved.
--traceback after any command shows where in the code an error arose."""


def dispatch(tokens: list[str], name: str | None) -> None:
    """Run one command, or show the help that the command line asks for.

    Args:
        tokens: The command line after `isograft`.
        name: The verb it begins with, whose options are read; None when it begins with none.

    Raises:
        IsograftError: The command line cannot be understood, or a setting or the input is wrong.
    """
    try:
        build_app(name)(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        raise IsograftError(usage_sentence(error)) from error


def usage_sentence(error: CycloptsError) -> str:
    """What cyclopts could not understand, on one line, with the command's own help as the way on."""
    chain = " ".join(error.command_chain or ())
    if isinstance(error, UnusedCliTokensError):
        return f"{chain} has no place for {' '.join(map(repr, error.unused_tokens or ()))} (see isograft {chain} --help)"
    return f"{str(error).strip()} (see isograft {chain + ' ' if chain else ''}--help)"


def build_app(name: str | None) -> App:
    """The application; only the named verb has options, for importing those of all takes longer than anything else."""
    app = App(name="isograft", help=ABOUT, help_format="plaintext", version=__version__, suppress_keyboard_interrupt=False)
    for verb in VERBS.values():
        if verb.name == name:
            app.command(_command(verb), name=verb.name)
        else:
            app.command(App(name=verb.name, help=verb.summary))
    return app


def _command(verb: Verb) -> Callable[..., None]:
    """The function behind one command: it checks the settings before anything heavy is imported."""
    from isograft.options import spelled

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
    from isograft.options import ordered_fields, positional

    parameters = []
    for name, field in ordered_fields(verb.settings):
        kind = inspect.Parameter.POSITIONAL_ONLY if positional(field) else inspect.Parameter.KEYWORD_ONLY
        default, hint = _token_default(field)
        annotation: Any = Annotated[hint, _parameter(name, field)]
        parameters.append(inspect.Parameter(name, kind, default=default, annotation=annotation))
    return inspect.Signature(parameters)


def _parameter(name: str, field: FieldInfo) -> Parameter:
    from isograft.options import default_text, metavar, positional
    from isograft.settings import flag

    names = name.upper() if positional(field) else flag(name)
    shown = default_text(field) is not None
    return Parameter(name=names, help=field.description, negative=(), show_default=shown, metavar=metavar(field))


def _token_default(field: FieldInfo) -> tuple[Any, Any]:
    """The default and the type cyclopts sees: words stay words, so that pydantic alone judges them and says what is wrong."""
    from isograft.options import choices, repeatable

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
