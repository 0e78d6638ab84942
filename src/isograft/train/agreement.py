"""How several processes that train one network agree: one decides, or all look for the largest, the mean, a problem of any.

What they tell each other besides gradients is JSON, over gloo. A process that is alone does at once what it is asked for. Every function is
called by all processes, in the same order.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from isograft.errors import Diverged, IsograftError, ToldElsewhere
from isograft.train.ranks import control, local_rank

T = TypeVar("T")


def on_first(work: Callable[[], T]) -> T:
    """Let the first process do something; all get the result, or the error.

    Args:
        work: Returns what JSON can hold.

    Raises:
        IsograftError: What the first process raised.
        Diverged: The same in all, who can go back together.
    """
    if control() is None:
        return work()
    answer: tuple[T | None, Exception | None] = (None, None)
    if dist.get_rank() == 0:
        try:
            answer = (work(), None)
        except Exception as error:  # whatever it is, the others wait to hear of it
            answer = (None, error)
    result, problem = answer
    code = getattr(problem, "exit_code", IsograftError.exit_code)
    told = _broadcast([result, None if problem is None else str(problem), code, isinstance(problem, Diverged)])
    if problem is not None:
        raise problem
    if told[3]:
        raise Diverged(told[1])
    if told[1] is not None:
        raise ToldElsewhere(told[1], told[2])
    returned: T = told[0]
    return returned


def on_first_of_machine(work: Callable[[], T]) -> T:
    """Let the first process of every machine do something that leaves files behind, then the others, who find them.

    Raises:
        IsograftError: What this or another process raised.
    """
    if control() is None:
        return work()
    result: list[T] = []
    for turn in (True, False):
        problem: IsograftError | None = None
        if (local_rank() == 0) is turn:
            try:
                result.append(work())
            except IsograftError as error:
                problem = error
        all_or_none(problem)
    return result[0]


def any_of(asked: bool) -> bool:
    """Whether it is so for one of the processes at least; all get the same answer."""
    return largest_of(int(asked)) > 0


def largest_of(number: int) -> int:
    """The largest of the numbers that the processes give; all get the same."""
    if control() is None:
        return number
    largest = torch.tensor([number])
    dist.all_reduce(largest, dist.ReduceOp.MAX, group=control())
    return int(largest)


def mean_of(figures: dict[str, float]) -> dict[str, float]:
    """Means over the processes, of figures that all have under the same names."""
    if control() is None:
        return figures
    values = torch.tensor(list(figures.values()), dtype=torch.float64)
    dist.all_reduce(values, group=control())
    return dict(zip(figures, (values / dist.get_world_size()).tolist(), strict=True))


def require_same(value: str, what: str) -> None:
    """Check that all processes see the same as the first.

    Raises:
        IsograftError: One does not.
    """
    if control() is None:
        return
    other = IsograftError(f"process {dist.get_rank()} sees another {what} than process 0; give all machines the same")
    all_or_none(other if on_first(lambda: value) != value else None)


def all_or_none(problem: IsograftError | None) -> None:
    """Raise in all processes when one of them has a problem; the one whose problem it is says so.

    Raises:
        IsograftError: The problem of this process.
        ToldElsewhere: That of another.
    """
    if control() is None:
        if problem is not None:
            raise problem
        return
    if any_of(problem is not None):
        raise problem or ToldElsewhere("another process cannot go on", IsograftError.exit_code)


def _broadcast(value: Any) -> Any:
    """What the first process holds, as JSON."""
    content = torch.tensor(list(json.dumps(value).encode()) if dist.get_rank() == 0 else [], dtype=torch.uint8)
    size = torch.tensor([len(content)])
    dist.broadcast(size, 0, group=control())
    if dist.get_rank() > 0:
        content = torch.empty(int(size), dtype=torch.uint8)
    dist.broadcast(content, 0, group=control())
    return json.loads(bytes(content.tolist()))
