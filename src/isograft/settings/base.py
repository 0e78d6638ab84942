"""What all options share: frozen classes, the marks of a field, durations and places."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from isograft.urls import is_url

POSITIONAL: dict[str, Any] = {"positional": True}
NEW_FILE: dict[str, Any] = {"new_file": True}

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")


def parse_duration(text: Any) -> Any:
    """Turn `90s`, `30m`, `1h30m` or a number of seconds into seconds; `None` stays `None`."""
    if text is None or isinstance(text, int | float):
        return text
    match = _DURATION.fullmatch(str(text).strip().lower())
    if match is None or not any(match.groups()):
        raise ValueError(f"'{text}' is not a duration; write for example 90s, 30m or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


Duration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0)]


def parse_place(value: Any) -> Any:
    """A path as `Path`; a URL stays text, since `Path` would make `s3:/bucket` of it."""
    return Path(value) if isinstance(value, str) and not is_url(value) else value


Place = Annotated[Path | str, BeforeValidator(parse_place)]
"""Where files lie: a path, or a URL."""


def flag(name: str) -> str:
    """The command-line spelling of an option: `image_size` becomes `--image-size`."""
    return "--" + name.replace("_", "-")


class Settings(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def given_option(name: str, value: Any) -> str:
    """An option as it was given on the command line."""
    option = flag(name)
    if isinstance(value, tuple):
        return " ".join(f"{option} {item}" for item in value)
    return option if value is True else f"{option} {value}"
