"""Optional packages: imported where they are needed, and named with their extra where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from isograft.errors import IsograftError


def needed(module: str, extra: str) -> Any:
    """Import an optional module.

    Args:
        module: Its name, for example `pydicom`.
        extra: The extra of this package that installs it.

    Raises:
        IsograftError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        raise IsograftError(f"this needs the package {missing}, which is not installed; pip install 'isograft[{extra}]'") from None
