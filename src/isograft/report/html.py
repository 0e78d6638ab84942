"""Pages made from templates, with everything inside: they open anywhere, offline, and ask nobody for anything."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from isograft._version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment


def page(template: str, **values: Any) -> str:
    """Fill a page.

    Args:
        template: File name in `templates/`, for example `evaluation.html.jinja`.
        values: What the template shows; text is escaped.

    Returns:
        The whole HTML document.
    """
    return _environment().get_template(template).render(version=__version__, **values)


def number(value: float | None, digits: int = 3) -> str:
    """A figure in [-1, 1] for reading; a dash when it was not computed."""
    return "–" if value is None else f"{value:.{digits}f}"


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("isograft", "report/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["count"] = lambda value: f"{value:,}"
    return environment
