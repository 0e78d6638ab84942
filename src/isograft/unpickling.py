"""A guard: while isograft opens a file, nothing in it is unpickled.

A pickle is a program: reading one may call any function there is. Isograft reads weights with safetensors, and what torch wrote with
torch's `weights_only` unpickler, which knows tensors and a short list of harmless types. This module is the second door behind that one:
should any library turn to Python's own unpickler while a file is opened, the first class or function it looks up is refused, before
anything is called.

The interpreter announces such a look-up as the auditing event `pickle.find_class` (PEP 578), for every unpickler of the standard library
and all that build on it (numpy, joblib, dill, cloudpickle). An audit hook cannot be taken away again, so it is set once and acts only
inside `nothing_unpickled`, in the thread that is inside. Pickles with which processes talk to each other (multiprocessing, Ray) are left
alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

from isograft.errors import IsograftError

_opened: ContextVar[str | None] = ContextVar("opened", default=None)


class PickleRefused(IsograftError):  # noqa: N818  (it says what happened)
    """A file that was opened tried to have a class or function looked up by Python's unpickler."""


@contextmanager
def nothing_unpickled(what: str) -> Iterator[None]:
    """Refuse every class and function that Python's unpickler looks up inside this block, or inside a function decorated with it.

    Args:
        what: What is opened, for the message.

    Raises:
        PickleRefused: Something was to be looked up.
    """
    _watch()
    token = _opened.set(what)
    try:
        yield
    finally:
        _opened.reset(token)


@cache
def _watch() -> None:
    """Set the audit hook, once."""

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "pickle.find_class" and (what := _opened.get()) is not None:
            name = ".".join(map(str, arguments))
            raise PickleRefused(f"{what} holds more than numbers: it asks for {name}, which was not run; get the file as .safetensors")

    sys.addaudithook(hook)
