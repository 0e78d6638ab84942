"""Pages made from templates, with everything inside: they open anywhere, offline, and ask nobody for anything."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from isograft._version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment


def page(template: str, **values: Any) -> str:
    """Fill a page.

    Args:
        template: File name in `templates/`, for example `evaluation.html.jinja`; one that ends in `.md.jinja` makes a Markdown page.
        values: What the template shows; text is escaped (in Markdown by the filter `md`).

    Returns:
        The whole document.
    """
    return _environment().get_template(template).render(version=__version__, **values)


def number(value: float | None, digits: int = 3) -> str:
    """A figure in [-1, 1] for reading; a dash when it was not computed."""
    return "–" if value is None else f"{value:.{digits}f}"


def between(interval: Mapping[str, Any] | None) -> str:
    """An interval for reading: `0.651 to 0.772`; empty when there is none."""
    return "" if interval is None or interval.get("low") is None else f"{number(interval['low'])} to {number(interval['high'])}"


def percent(value: float | None) -> str:
    """A share in [0, 1] for reading, with one decimal, but none where it is exactly 0 or 1; a dash when it was not computed."""
    if value is None:
        return "–"
    return f"{100 * value:.0f}\u00a0%" if value in (0, 1) else f"{100 * min(max(value, 0.001), 0.999):.1f}\u00a0%"


def signed(value: float | None, digits: int = 3) -> str:
    """A difference for reading, with its sign; a dash when it was not computed."""
    return "–" if value is None else f"{value:+.{digits}f}".replace("-", "−")


def p_value(value: float | None) -> str:
    """A p-value for reading, never zero; a dash when there is none."""
    return "–" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def markdown(text: object) -> str:
    """Text on one line in which nothing is taken for Markdown, HTML or a formula."""
    return re.sub(r"([\\`*_\[\]<>|#$~&])", r"\\\1", " ".join(str(text).split()))


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("isograft", "report/templates"),
        autoescape=select_autoescape(enabled_extensions=("html.jinja",), disabled_extensions=("md.jinja",), default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["between"] = between
    environment.filters["percent"] = percent
    environment.filters["signed"] = signed
    environment.filters["p_value"] = p_value
    environment.filters["count"] = lambda value: f"{value:,}"
    environment.filters["md"] = markdown
    environment.filters["bibtex"] = lambda value: re.sub(r"([&%$#_])", r"\\\1", re.sub(r"[{}\\~^`]", " ", str(value)))
    return environment
