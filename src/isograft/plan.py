"""Decisions with their reasons: every `auto` becomes a value before anything runs.

A plan is a list of named decisions. It is printed, saved in `run.json` and in the model's passport, and read back when a run is resumed,
so that measured decisions (precision, steps that fit the time) are taken once. People may edit it: a new run takes decisions from a file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from isograft import console
from isograft.errors import IsograftError
from isograft.options import sentence
from isograft.plan_values import check_value
from isograft.settings import IDLE, Settings
from isograft.spelling import near

S = TypeVar("S", bound=Settings)

_BINDING = ("init", "backbone")  # another start makes another run of the same plan
_STEPS = ("total_steps", "pace")
_FOLLOWS = {"epochs": _STEPS, "max_time": _STEPS, "image_size": ("resolution",), "batch_size": _STEPS}
"""Decisions that follow from an option; it decides them when it is given."""


class Decision(BaseModel):
    """One value and why.

    Attributes:
        name: The option or quantity.
        value: JSON-ready value.
        reason: One line.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    value: Any
    reason: str


class Edits(BaseModel):
    """Decisions that people took out of our hands.

    Attributes:
        wanted: Values by name.
        origin: The file they come from.
        strict: Whether every name must be a decision of the run; a whole plan of another run may hold more.
    """

    model_config = ConfigDict(frozen=True)

    wanted: dict[str, Any] = {}
    origin: str = ""
    strict: bool = True

    @classmethod
    def read(cls, path: Path) -> Edits:
        """Read a JSON file: `{"lr": 0.0001}`, or the run.json or model.json of another run.

        Raises:
            IsograftError: The file cannot be read as such.
        """
        try:
            content = json.loads(path.read_bytes())
            content = content.get("plan", content)
            if isinstance(content, list):
                return cls(wanted={entry["name"]: entry["value"] for entry in content}, origin=path.name, strict=False)
            return cls(wanted=dict(content), origin=path.name)
        except OSError as error:
            raise IsograftError(f"--plan {path} cannot be read: {error.strerror or error}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise IsograftError(
                f'--plan {path} is no plan; write for example {{"lr": 0.0001}}, or give the run.json or model.json of another run'
            ) from error

    def settle(self, settings: S) -> tuple[S, Edits]:
        """Give the options that were left to us the values wanted here, so that they are checked like any option.

        Returns:
            The settings, and the edits without what options that were given decide.

        Raises:
            IsograftError: A value that the option does not take, or one that contradicts an option.
        """
        given = {name: getattr(settings, name, None) for name in _FOLLOWS}
        decided = [name for name, value in given.items() if value not in (None, "auto", self.wanted.get(name))]
        clashes = {name for option in decided for name in _FOLLOWS[option] if name in self.wanted}
        if self.strict and "epochs" in decided and clashes & {*_STEPS}:
            raise IsograftError(f"--epochs and {min(clashes & {*_STEPS})} of {self.origin} contradict each other; leave one of them out")
        idle = IDLE.get(getattr(settings, "strategy", ""), {})
        derived = () if self.strict else ("epochs", "domain", *idle)  # in a whole plan they follow from its steps and views
        left = {name: value for name, value in self.wanted.items() if getattr(settings, name, None) == "auto" and name not in derived}
        dropped = set() if self.strict else clashes
        kept = self.model_copy(update={"wanted": {name: value for name, value in self.wanted.items() if name not in dropped}})
        try:
            return type(settings).model_validate({**settings.model_dump(), **left}), kept
        except ValidationError as error:
            raise IsograftError(f"{self.origin}: {sentence(error, type(settings), str)}") from error


class Plan:
    """An ordered set of decisions, read like a mapping: `plan["batch_size"]`.

    Args:
        decisions: Decisions taken already.
        edits: What people want in place of what would be decided.
        kept: Whether the decisions taken already stand, as in a resumed run.
    """

    def __init__(self, decisions: Iterable[Decision] = (), edits: Edits | None = None, *, kept: bool = False) -> None:
        self._decisions: dict[str, Decision] = {decision.name: decision for decision in decisions}
        self._edits = edits or Edits()
        self._kept = kept

    def decide(self, name: str, value: Any, reason: str) -> Any:
        """Record a decision, or what the plan file wants instead, and return the value.

        Raises:
            IsograftError: The file wants another kind of value, or one out of bounds.
        """
        if self._kept and name in self._decisions:
            return self[name]
        if self.edited(name):
            wanted = self._edits.wanted[name]
            if _kind(wanted) != _kind(value) and value is not None:
                raise IsograftError(f"{self._edits.origin} sets {name} to {wanted!r}, but it must be like {value!r}")
            check_value(name, wanted, self._edits.origin)
            return self.revise(name, wanted, f"from {self._edits.origin}")
        return self.revise(name, value, reason)

    def choose(self, name: str, asked: Any, automatic: Any, reason: str) -> Any:
        """Record what the user asked for, or the automatic value with its reason when they left it to us."""
        if asked is None or asked == "auto":
            return self.decide(name, automatic, reason)
        if self._kept and name in self._decisions:
            return self[name]
        return self.revise(name, asked, f"from {self._edits.origin}" if self._edits.wanted.get(name) == asked else "as asked")

    def edited(self, name: str) -> bool:
        """Whether people took this decision out of our hands."""
        return name in self._edits.wanted

    def state(self, name: str, value: Any, reason: str) -> Any:
        """Record what follows from the input and the options, and so cannot be edited.

        Raises:
            IsograftError: An edit says something else.
        """
        if (self._edits.strict or name in _BINDING) and self._edits.wanted.get(name, value) != value:
            raise IsograftError(
                f"{self._edits.origin} sets {name} to {self._edits.wanted[name]!r}, but that is no choice: it is {value!r} ({reason}); "
                f"{f'give --{name}' if name in _BINDING else 'leave it out'}"
            )
        return self.revise(name, value, reason)

    def revise(self, name: str, value: Any, reason: str) -> Any:
        """Record a decision whatever was decided or wanted before."""
        self._decisions[name] = Decision(name=name, value=value, reason=reason)
        return value

    def adopt(self, dumped: Iterable[dict[str, Any]]) -> None:
        """Take over decisions from `dump`: those of the process that decides for several."""
        for entry in dumped:
            decision = Decision.model_validate(entry)
            self._decisions[decision.name] = decision

    def refuse_unknown(self) -> None:
        """Refuse edits of what this run does not decide; called once everything is decided.

        Raises:
            IsograftError: Naming the first of them.
        """
        for name in self._edits.wanted if self._edits.strict else ():
            if name not in self._decisions:
                raise IsograftError(f"{self._edits.origin} sets {name}, which this run does not decide{near(name, list(self._decisions))}")

    def get(self, name: str, default: Any) -> Any:
        """Return a decision's value, or `default` when there is none."""
        return self._decisions[name].value if name in self._decisions else default

    def __getitem__(self, name: str) -> Any:
        return self._decisions[name].value

    def __contains__(self, name: str) -> bool:
        return name in self._decisions

    def __iter__(self) -> Iterator[Decision]:
        return iter(self._decisions.values())

    def dump(self) -> list[dict[str, Any]]:
        """Return the decisions as JSON-ready dictionaries."""
        return [decision.model_dump() for decision in self]

    @classmethod
    def load(cls, dumped: Iterable[dict[str, Any]], edits: Edits | None = None) -> Plan:
        """Rebuild a plan from `dump`; what it holds stands, and `edits` tell only what of it people wanted."""
        return cls((Decision.model_validate(entry) for entry in dumped), edits, kept=True)

    def tell(self) -> None:
        """Show the plan to the user, a line each."""
        width = max((len(decision.name) for decision in self), default=0)
        for decision in self:
            console.say(f"  {decision.name:<{width}}  {_short(decision.value)}  ({decision.reason})")


def _kind(value: Any) -> str:
    """Numbers are alike, whole or not; true and false are not numbers."""
    if isinstance(value, bool):
        return "switch"
    if isinstance(value, int | float):
        return "number"
    return type(value).__name__


def _short(value: Any) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
