"""Isograft: same-domain transfer learning for medical images with few labels.

Every verb of the command line is a function here, with the same names and arguments:
`isograft.fetch`, `ingest`, `audit`, `pretrain`, `finetune`, `evaluate`, `predict`, `explain`, `study`, `show` and `demo`.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

from isograft._version import __version__
from isograft.errors import IsograftError, LeakageError, RunInterrupted
from isograft.verbs import VERBS

_LAZY = {"Manifest": "isograft.data.manifest", "Model": "isograft.model"}

__all__ = ["IsograftError", "LeakageError", "Manifest", "Model", "RunInterrupted", "__version__", *VERBS]


class _Package(ModuleType):
    """A module in which a submodule does not hide the verb of the same name (`isograft.evaluate` stays the function)."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in VERBS and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _LAZY or name in VERBS:
        value = VERBS[name].function() if name in VERBS else getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'isograft' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *VERBS})
