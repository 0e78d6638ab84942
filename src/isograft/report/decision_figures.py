"""The pictures about relying on a model: reliability, decision curves, risk over coverage, and parts side by side with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isograft.report.figures import COLOURS, Picture, as_svg, new_canvas, short_name

_GREY = "#666666"
_GRID = "#e5e5e5"


def reliability_figure(bins: Sequence[Mapping[str, Any]], before: Sequence[Mapping[str, Any]] | None = None) -> Picture:
    """Draw how often the model was right over how sure it was, with 95 % intervals.

    Args:
        bins: Points with `confidence`, `frequency`, `low`, `high`, `images`, of the probabilities as they are given.
        before: The same of the probabilities before calibration.
    """
    canvas, axes = new_canvas(5.2, 4.9)
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1)
    if before:
        x, y = ([one[name] for one in before] for name in ("confidence", "frequency"))
        axes.plot(x, y, color=COLOURS[1], linestyle="--", marker="s", markerfacecolor="white", linewidth=1.3, label="before calibration")
    _with_intervals(axes, bins, "as given" if before else "")
    low = min(one["confidence"] for one in [*bins, *(before or [])])
    left = max(0.0, np.floor(10 * low) / 10)
    axes.set(xlim=(left, 1.02), ylim=(-0.02, 1.02), xlabel="how sure the model was (mean probability)", ylabel="how often it was right")
    axes.grid(color=_GRID)
    if before:
        axes.legend(loc="upper left", fontsize=9, framealpha=0.9)
    told = "; ".join(_bin(one) for one in bins)
    text = f"Reliability diagram: {told}."
    if before:
        earlier = "; ".join(f"sure {one['confidence']:.2f}, right {one['frequency']:.2f}" for one in before)
        text += f" Before calibration: {earlier}."
    caption = "Each point is about a tenth of the images; bars are 95 % intervals. On the grey line, probabilities mean what they say."
    return Picture(as_svg(canvas), text, caption)


def class_reliability_figure(name: str, bins: Sequence[Mapping[str, Any]]) -> Picture:
    """Draw how often a class was true over the probability it was given.

    Args:
        name: The class.
        bins: Its points, as for `reliability_figure`.
    """
    canvas, axes = new_canvas(3.3, 3.2)
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1)
    _with_intervals(axes, bins, "")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), title=short_name(name, 26))
    axes.set(xlabel="probability of the class", ylabel="how often it was true")
    axes.grid(color=_GRID)
    told = "; ".join(_bin(one, "given", "true") for one in bins)
    return Picture(as_svg(canvas), f"Reliability of {name} against the rest: {told}.")


def decision_curve_figure(name: str, curve: Mapping[str, Sequence[float]]) -> Picture:
    """Draw the net benefit of acting on a class over the threshold probability.

    Args:
        name: The class.
        curve: `threshold`, `model` and `all`.
    """
    canvas, axes = new_canvas(3.3, 3.2)
    top = max(max(curve["model"]), max(curve["all"]), 0.01)
    axes.plot(curve["threshold"], curve["all"], color=COLOURS[1], linestyle="--", linewidth=1.5, label="treat all")
    axes.axhline(0, color=_GREY, linestyle=":", linewidth=1.5, label="treat none")
    axes.plot(curve["threshold"], curve["model"], color=COLOURS[0], linewidth=2.2, label="the model")
    axes.set(xlim=(0, 1), ylim=(-0.25 * top, 1.1 * top), title=short_name(name, 26), xlabel="threshold probability", ylabel="net benefit")
    axes.grid(color=_GRID)
    axes.legend(fontsize=9, framealpha=0.9, loc="upper right")
    told = "; ".join(f"at {t:.0%} the model {_at(curve, 'model', t):.3f}, treat all {_at(curve, 'all', t):.3f}" for t in _SAID)
    return Picture(as_svg(canvas), f"Decision curve of {name}: {told}; treat none 0.")


def risk_coverage_figure(curve: Mapping[str, Any]) -> Picture:
    """Draw the share of wrong answers over the share of images answered, the surest first.

    Args:
        curve: `coverage` and `risk`, P points each.
    """
    canvas, axes = new_canvas(5.2, 3.6)
    x, y = np.asarray(curve["coverage"]), np.asarray(curve["risk"])
    axes.plot(x, y, color=COLOURS[0], linewidth=2.2, marker="o" if len(x) < 8 else "")
    axes.axhline(y[-1], color=_GREY, linestyle=":", linewidth=1.5)
    axes.set(xlim=(0, 1.02), ylim=(0, max(0.02, 1.15 * float(y.max()))))
    axes.set(xlabel="share of images answered, the surest first", ylabel="share of wrong answers")
    axes.grid(color=_GRID)
    told = "; ".join(f"{share:.0%} answered, {risk_at(curve, share):.1%} wrong" for share in (0.25, 0.5, 0.75, 0.9, 1.0))
    caption = "Wrong answers if the model leaves the images it is least sure of to people. Dotted: if it answers all."
    return Picture(as_svg(canvas), f"Risk over coverage: {told}.", caption)


def forest_figure(
    rows: Sequence[tuple[str, float, Mapping[str, Any] | None]],
    figure: str,
    middle: float | None = None,
    band: Mapping[str, Any] | None = None,
    caption: str = "",
) -> Picture:
    """Draw a figure of several parts with its intervals, one below the other.

    Args:
        rows: Name, value and interval (`low`, `high`; None where there is none), from the top.
        figure: What the values are; names the axis.
        middle: Where a line is drawn: the value of all together, or zero for differences.
        band: Interval of `middle`.
        caption: Under the picture.
    """
    canvas, axes = new_canvas(5.6, 0.95 + 0.31 * len(rows))
    if band:
        axes.axvspan(band["low"], band["high"], color="#dddddd", linewidth=0)
    if middle is not None:
        axes.axvline(middle, color="#000000", linewidth=1)
    for place, (_, value, interval) in enumerate(rows):
        if interval:
            ends = [interval["low"], interval["high"]]
            axes.plot(ends, [place, place], color=COLOURS[0], linewidth=2.2, solid_capstyle="butt")
        face = COLOURS[0] if interval else "white"
        axes.plot([value], [place], marker="o", markersize=6, color=COLOURS[0], markerfacecolor=face, linestyle="none")
    axes.set_yticks(range(len(rows)), [short_name(name, 30) for name, _, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set(xlabel=figure)
    axes.grid(axis="x", color=_GRID)
    axes.tick_params(axis="y", length=0)
    told = "; ".join(f"{name} {value:.3f}" + (f" ({ci['low']:.3f} to {ci['high']:.3f})" if ci else "") for name, value, ci in rows)
    line = "" if middle is None else f" The line: {middle:.3f}."
    return Picture(as_svg(canvas), f"{figure}: {told}.{line}", caption)


def risk_at(curve: Mapping[str, Any], share: float) -> float:
    """The share of wrong answers when at least this share of the images is answered."""
    place = int(np.searchsorted(np.asarray(curve["coverage"]), share - 1e-12))
    return float(curve["risk"][min(place, len(curve["risk"]) - 1)])


_SAID = (0.05, 0.1, 0.2, 0.5)


def _at(curve: Mapping[str, Sequence[float]], name: str, threshold: float) -> float:
    place = int(np.argmin(np.abs(np.asarray(curve["threshold"]) - threshold)))
    return float(curve[name][place])


def _with_intervals(axes: Any, bins: Sequence[Mapping[str, Any]], label: str) -> None:
    x, y, low, high = (np.array([one[name] for one in bins]) for name in ("confidence", "frequency", "low", "high"))
    around = np.maximum([y - low, high - y], 0)
    axes.errorbar(x, y, yerr=around, color=COLOURS[0], marker="o", linewidth=1.6, elinewidth=1.2, capsize=3, label=label or None)


def _bin(one: Mapping[str, Any], given: str = "sure", happened: str = "right") -> str:
    between = f"({one['low']:.2f} to {one['high']:.2f})"
    return f"{given} {one['confidence']:.2f}, {happened} {one['frequency']:.2f} {between} of {one['images']:,} images"
