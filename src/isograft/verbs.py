"""The verbs: each one is a name, a settings class, and the function that does the work, imported only when called."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from isograft import settings as s
from isograft.errors import IsograftError
from isograft.options import ordered_fields, positional, python_type, repeatable, sentence


class SourceText(str):
    """Source text that shows without quotes in `help()`."""

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True)
class Verb:
    """One verb of the command line and of the Python interface.

    Attributes:
        name: What the user types.
        settings: The class that defines its options.
        target: Where its implementation lives, as `module:function`; a function of one settings object.
        returns: The type the implementation returns, as `module:name`.
        about: What it returns, in words.
    """

    name: str
    settings: type[s.Settings]
    target: str
    returns: str
    about: str

    @property
    def summary(self) -> str:
        """What the verb does, in one sentence."""
        return inspect.getdoc(self.settings) or self.name

    @property
    def returned_name(self) -> str:
        """The name of the returned type, without its module."""
        return self.returns.rpartition(":")[2]

    def build(self, values: dict[str, Any], spell: Callable[[str], str] = str) -> s.Settings:
        """Make the settings object from what the user gave.

        Args:
            values: Option name to value; a Manifest or Model stands for its path.
            spell: How to write an option's name in an error: as in Python or as on the command line.

        Raises:
            IsograftError: An option is unknown, missing or out of its bounds.
        """
        fields = self.settings.model_fields
        try:
            return self.settings(**{name: _plain(value, fields.get(name)) for name, value in values.items()})
        except ValidationError as error:
            raise IsograftError(f"{self.name}: {sentence(error, self.settings, spell)}") from None

    def run(self, settings: s.Settings) -> Any:
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
        parameters = []
        for name, field in ordered_fields(self.settings):
            kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if positional(field) else inspect.Parameter.KEYWORD_ONLY
            default = inspect.Parameter.empty if field.is_required() else field.default
            parameters.append(inspect.Parameter(name, kind, default=default, annotation=SourceText(python_type(name, field))))
        return inspect.Signature(parameters, return_annotation=SourceText(self.returned_name))

    def documentation(self) -> str:
        """The docstring of the Python function (Google style)."""
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
    if field is not None and repeatable(field):
        if isinstance(value, str):
            return (value,)
        if isinstance(value, list | tuple):
            return tuple(_plain(one, None) for one in value)
    return value


VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb("ingest", s.IngestSettings, "isograft.data.ingest:ingest", "isograft.data.manifest:Manifest", "The manifest written."),
        Verb("audit", s.AuditSettings, "isograft.audit.audit:audit", "builtins:dict[str, Any]", "The findings, as in audit.json."),
        Verb("pretrain", s.PretrainSettings, "isograft.train.pretrain:pretrain", "isograft.model:Model", "The model written."),
        Verb("finetune", s.FinetuneSettings, "isograft.train.finetune:finetune", "isograft.model:Model", "The classifier written."),
        Verb(
            "evaluate",
            s.EvaluateSettings,
            "isograft.evaluation.evaluate:evaluate",
            "builtins:dict[str, Any]",
            "The metrics, as in metrics.json.",
        ),
        Verb("predict", s.PredictSettings, "isograft.predict.predict:predict", "polars:DataFrame", "The table written: one row per input."),
        Verb("explain", s.ExplainSettings, "isograft.explain.explain:explain", "polars:DataFrame", "The table written: one row per input."),
        Verb("export", s.ExportSettings, "isograft.export.export:export", "builtins:dict[str, Any]", "The comparison with predict."),
        Verb("serve", s.ServeSettings, "isograft.serve.serve:serve", "builtins:None", "Nothing; it runs until it is stopped."),
        Verb("suggest", s.SuggestSettings, "isograft.suggest.suggest:suggest", "polars:DataFrame", "The table written, best first."),
        Verb("study", s.StudySettings, "isograft.study.study:study", "builtins:dict[str, Any]", "The summary, as in summary.json."),
        Verb(
            "fetch",
            s.FetchSettings,
            "isograft.fetch.fetch:fetch",
            "isograft.data.manifest:Manifest | None",
            "The manifest written, or None for the list.",
        ),
        Verb("show", s.ShowSettings, "isograft.show:show", "builtins:str", "The text printed."),
        Verb(
            "demo",
            s.DemoSettings,
            "isograft.demo:demo",
            "polars:DataFrame",
            "One row per start: pretrained and scratch, with test figures.",
        ),
    )
}
