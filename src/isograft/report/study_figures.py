"""The pictures of a study's report: label-efficiency curves with bands, and paired differences with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isograft.report.figures import COLOURS, DASHES, MOST_CURVES, Picture, as_svg, new_canvas, short_name

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
Point = tuple[float, float | None, float | None]
"""A value with the lower and upper end of its interval, None where there is none."""


def label_curves(labels: Sequence[float], names: Sequence[str], arms: dict[str, Sequence[Point]], figure: str) -> Picture:
    """Draw a figure over the labels, one line per arm, with a band for the 95 % interval.

    Args:
        labels: float (B,), labels per class, rising.
        names: B names of the budgets, as they stand under the axis.
        arms: Arm to its B points; NaN where there is none. At most `MOST_CURVES` are drawn, the first ones.
        figure: The figure's name.
    """
    canvas, axes = new_canvas(6.4, 4.2)
    for place, (name, points) in enumerate(list(arms.items())[:MOST_CURVES]):
        style: dict[str, Any] = {"color": COLOURS[place], "linestyle": DASHES[place], "marker": MARKERS[place]}
        axes.plot(labels, [value for value, _, _ in points], linewidth=2.0, label=short_name(name, 26), **style)
        ends = [(x, low, high) for x, (_, low, high) in zip(labels, points, strict=True) if low is not None and high is not None]
        if len(ends) > 1:
            axes.fill_between(*([end[k] for end in ends] for k in range(3)), color=COLOURS[place], alpha=0.13, linewidth=0)
        elif ends:
            axes.vlines(ends[0][0], ends[0][1], ends[0][2], color=COLOURS[place])
    axes.set_xscale("log")
    axes.set_xticks(list(labels), list(names))
    axes.minorticks_off()
    axes.set(xlabel="labels per class", ylabel=figure)
    axes.grid(color="#e5e5e5")
    axes.legend(fontsize=9, framealpha=0.9)
    told = "; ".join(
        f"{name} " + ", ".join(f"{_told(point)} with {budget}" for point, budget in zip(points, names, strict=True))
        for name, points in arms.items()
    )
    left_out = f" Drawn: the first {MOST_CURVES} of {len(arms)} arms." if len(arms) > MOST_CURVES else ""
    return Picture(
        as_svg(canvas),
        f"{figure} over labels per class: {told}.",
        f"{figure} over the number of labels per class (logarithmic). Bands: 95 % intervals of each arm alone; arms are compared by their "
        f"paired differences, not by whether bands overlap.{left_out}",
    )


def difference_figure(rows: Sequence[tuple[str, Point, bool]], figure: str) -> Picture:
    """Draw paired differences with their 95 % intervals around zero.

    Args:
        rows: Name, point and whether it is an average over budgets (drawn heavier), from the top.
        figure: The figure's name.
    """
    canvas, axes = new_canvas(7.0, 0.9 + 0.3 * len(rows))
    for place, (_, (value, low, high), heavy) in enumerate(rows):
        colour = COLOURS[0] if heavy else COLOURS[7]
        if low is not None and high is not None:
            axes.plot([low, high], [place, place], color=colour, linewidth=3.0 if heavy else 1.6, solid_capstyle="butt")
        axes.plot([value], [place], marker="D" if heavy else "o", markersize=7 if heavy else 5, color=colour, linestyle="none")
    axes.axvline(0, color="#000000", linewidth=1)
    axes.set_yticks(range(len(rows)), [short_name(name, 58) for name, _, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set(xlabel=f"difference in {figure}; right of zero: the first arm is better")
    axes.grid(axis="x", color="#e5e5e5")
    told = "; ".join(f"{name} {_told(point, '+')}" for name, point, _ in rows)
    return Picture(
        as_svg(canvas),
        f"Paired differences in {figure}: {told}.",
        "Paired differences with 95 % intervals, not corrected for their number. Diamonds: averaged over the label budgets.",
    )


def _told(point: Point, sign: str = "") -> str:
    value, low, high = point
    if value != value:  # NaN: there is no run
        return "not there"
    interval = f" ({low:{sign}.3f} to {high:{sign}.3f})" if low is not None and high is not None else ""
    return f"{value:{sign}.3f}{interval}"
