"""The commented template of a study file."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from isograft import console
from isograft.errors import IsograftError


def template() -> str:
    """The text of the template."""
    return (files("isograft.study") / "template.yaml").read_text(encoding="utf-8")


def write_template(path: Path) -> Path:
    """Write the template to a new file.

    Raises:
        IsograftError: There is something at this path already, or its folder does not exist.
    """
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(template())
    except FileExistsError:
        raise IsograftError(f"--init {path} exists already and is not overwritten; give another name") from None
    except FileNotFoundError:
        raise IsograftError(f"--init {path}: there is no folder {path.parent}; make it first") from None
    console.say(f"template: {path}; edit it, then: isograft study {path} --out DIR --dry-run")
    return path
