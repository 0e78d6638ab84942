"""The verbs: each one is a name, a settings class, and the function that does the work.

This table is what a mistyped command and the list of commands need, so it imports neither pydantic nor any implementation: the options of a
verb are imported when they are asked for, and its implementation when it runs.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_origin

from isograft.errors import IsograftError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from isograft.settings import Settings


class SourceText(str):
    """Source text that shows without quotes in `help()`."""

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True)
class Verb:
    """One verb of the command line and of the Python interface.

    Attributes:
        name: What the user types; the options of `predict` are `isograft.settings.PredictSettings`.
        summary: What it does, in one sentence.
        target: Where its implementation lives, as `module:function`; a function of one settings object.
        returns: The type the implementation returns, as `module:name`.
        about: What it returns, in words.
    """

    name: str
    summary: str
    target: str
    returns: str
    about: str

    @property
    def settings(self) -> type[Settings]:
        """The class that defines its options."""
        found: type[Settings] = getattr(importlib.import_module("isograft.settings"), f"{self.name.capitalize()}Settings")
        return found

    @property
    def returned_name(self) -> str:
        """The name of the returned type, without its module."""
        return self.returns.rpartition(":")[2]

    def build(self, values: dict[str, Any], spell: Callable[[str], str] = str) -> Settings:
        """Make the settings object from what the user gave.

        Args:
            values: Option name to value; a Manifest or Model stands for its path.
            spell: How to write an option's name in an error: as in Python or as on the command line.

        Raises:
            IsograftError: An option is unknown, missing or out of its bounds.
        """
        from pydantic import ValidationError

        from isograft.options import sentence

        fields = self.settings.model_fields
        try:
            return self.settings(**{name: _plain(value, fields.get(name)) for name, value in values.items()})
        except ValidationError as error:
            raise IsograftError(f"{self.name}: {sentence(error, self.settings, spell)}") from None

    def run(self, settings: Settings) -> Any:
        """Import the implementation and run it."""
        module, _, function = self.target.partition(":")
        return getattr(importlib.import_module(module), function)(settings)

    def function(self) -> Callable[..., Any]:
        """The Python function of this verb, with a true signature and the help of every option."""
        signature = self.signature()
        places = [name for name, parameter in signature.parameters.items() if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]

        def call(*positionals: Any, **options: Any) -> Any:
            if len(positionals) > len(places):
                raise IsograftError(
                    f"{self.name} takes {len(places)} unnamed arguments ({', '.join(places)}) but got {len(positionals)}; name the others"
                )
            given = dict(zip(places, positionals, strict=False))
            if twice := given.keys() & options.keys():
                raise IsograftError(f"{self.name} got {sorted(twice)[0]} twice")
            return self.run(self.build(given | options))

        call.__name__ = call.__qualname__ = self.name
        call.__module__ = "isograft"
        call.__doc__ = self.documentation()
        call.__signature__ = signature  # type: ignore[attr-defined]
        return call

    def signature(self) -> inspect.Signature:
        """The Python signature: positional options first, the others by name."""
        from isograft.options import ordered_fields, positional, python_type

        parameters = []
        for name, field in ordered_fields(self.settings):
            kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if positional(field) else inspect.Parameter.KEYWORD_ONLY
            default = inspect.Parameter.empty if field.is_required() else field.default
            parameters.append(inspect.Parameter(name, kind, default=default, annotation=SourceText(python_type(name, field))))
        return inspect.Signature(parameters, return_annotation=SourceText(self.returned_name))

    def documentation(self) -> str:
        """The docstring of the Python function (Google style)."""
        from isograft.options import ordered_fields

        lines = [self.summary, "", "Args:"]
        lines += [f"    {name}: {field.description}" for name, field in ordered_fields(self.settings)]
        lines += ["", "Returns:", f"    {self.about}", "", "Raises:"]
        lines.append("    IsograftError: An option or the input is wrong; the message says what, where and what to do.")
        return "\n".join(lines) + "\n"


def _plain(value: Any, field: FieldInfo | None) -> Any:
    """Turn a path-like value, a Manifest or a Model into text, and a single value of a repeatable option into a tuple."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    elif type(value).__module__ == "isograft.model" and hasattr(value, "folder"):
        value = str(value.folder)
    elif type(value).__module__ == "isograft.data.manifest" and hasattr(value, "path"):
        if value.path is None:
            raise IsograftError("this manifest is only in memory; write it first with manifest.write('name.parquet')")
        value = str(value.path)
    if field is not None and get_origin(field.annotation) is tuple:
        if isinstance(value, str):
            return (value,)
        if isinstance(value, list | tuple):
            return tuple(_plain(one, None) for one in value)
    return value


VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb(
            "ingest",
            "Decode every image once and write a manifest: one row per image, good or bad.",
            "isograft.data.ingest:ingest",
            "isograft.data.manifest:Manifest",
            "The manifest written.",
        ),
        Verb(
            "audit",
            "Look at images before training: broken files, copies, leaks between data sets or into a model, shortcuts.",
            "isograft.audit.audit:audit",
            "builtins:dict[str, Any]",
            "The findings, as in audit.json.",
        ),
        Verb(
            "pretrain",
            "Train a network on unlabeled images of your own domain.",
            "isograft.train.pretrain:pretrain",
            "isograft.model:Model",
            "The model written.",
        ),
        Verb(
            "finetune",
            "Train a classifier on few labeled images, from any start.",
            "isograft.train.finetune:finetune",
            "isograft.model:Model",
            "The classifier written.",
        ),
        Verb(
            "evaluate",
            "Score a classifier on images it has never seen, or refuse.",
            "isograft.evaluation.evaluate:evaluate",
            "builtins:dict[str, Any]",
            "The metrics, as in metrics.json.",
        ),
        Verb(
            "predict",
            "Classify images: one row per input, whatever its state.",
            "isograft.predict.predict:predict",
            "polars:DataFrame",
            "The table written: one row per input.",
        ),
        Verb(
            "explain",
            "Show where in an image a classifier finds what speaks for a class, and which training images look alike to it.",
            "isograft.explain.explain:explain",
            "polars:DataFrame",
            "The table written: one row per input.",
        ),
        Verb(
            "export",
            "Write a model in a form that other programs load, and prove on real images that its answers are the same.",
            "isograft.export.export:export",
            "builtins:dict[str, Any]",
            "The comparison with predict.",
        ),
        Verb(
            "serve",
            "Answer in the browser and over HTTP: a local web app for one classifier, for research use only.",
            "isograft.serve.serve:serve",
            "builtins:None",
            "Nothing; it runs until it is stopped.",
        ),
        Verb(
            "suggest",
            "Choose which unlabeled images are worth labeling next.",
            "isograft.suggest.suggest:suggest",
            "polars:DataFrame",
            "The table written, best first.",
        ),
        Verb(
            "study",
            "Compare starts, pools and chains on your tasks, over label budgets and splits, with a verdict.",
            "isograft.study.study:study",
            "builtins:dict[str, Any]",
            "The summary, as in summary.json.",
        ),
        Verb(
            "fetch",
            "Fetch a public pool of images by name; its licence is shown and agreed to first.",
            "isograft.fetch.fetch:fetch",
            "isograft.data.manifest:Manifest | None",
            "The manifest written, or None for the list.",
        ),
        Verb(
            "show",
            "Print a model's lineage, its plan with reasons, and its figures.",
            "isograft.show:show",
            "builtins:str",
            "The text printed.",
        ),
        Verb(
            "demo",
            "Run the whole story on built-in synthetic images: minutes on two cores, no network.",
            "isograft.demo:demo",
            "polars:DataFrame",
            "One row per start: pretrained and scratch, with test figures.",
        ),
    )
}
