"""Decisions with their reasons: every `auto` becomes a value before anything runs.

A plan is a list of named decisions. It is printed, saved in `run.json` and in the model's passport, and read back when a run is resumed,
so that measured decisions (precision, steps that fit the time) are taken once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict

from isograft import console


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


class Plan:
    """An ordered set of decisions, read like a mapping: `plan["batch_size"]`."""

    def __init__(self, decisions: Iterable[Decision] = ()) -> None:
        self._decisions: dict[str, Decision] = {decision.name: decision for decision in decisions}

    def decide(self, name: str, value: Any, reason: str) -> Any:
        """Record a decision and return its value."""
        self._decisions[name] = Decision(name=name, value=value, reason=reason)
        return value

    def choose(self, name: str, asked: Any, automatic: Any, reason: str) -> Any:
        """Record what the user asked for, or the automatic value with its reason when they left it to us."""
        if asked is None or asked == "auto":
            return self.decide(name, automatic, reason)
        return self.decide(name, asked, "as asked")

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
    def load(cls, dumped: Iterable[dict[str, Any]]) -> Plan:
        """Rebuild a plan from `dump`."""
        return cls(Decision.model_validate(entry) for entry in dumped)

    def tell(self) -> None:
        """Show the plan to the user, a line each."""
        width = max((len(decision.name) for decision in self), default=0)
        for decision in self:
            console.say(f"  {decision.name:<{width}}  {_short(decision.value)}  ({decision.reason})")


def _short(value: Any) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
