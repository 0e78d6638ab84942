"""The pictures of a report: drawn with matplotlib, carried inside the page, each with a text that says what it shows.

Colours are those of Okabe and Ito (2008), which people with any of the common colour-vision
deficiencies tell apart; lines differ in dash pattern as well, so that a grey print stays readable.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from isograft.thumbnails import jpeg

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from isograft.assess.metrics import Curve

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#666666")
DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)), (0, (3, 1)))
MOST_CURVES = len(COLOURS)
_CURVE_WORDS = {
    "roc": {
        "name": "ROC",
        "x": "false positive rate (1 − specificity)",
        "y": "true positive rate (recall)",
        "area": "area",
        "legend": "lower right",
        "guess": "The grey line is guessing.",
    },
    "pr": {
        "name": "Precision-recall",
        "x": "recall",
        "y": "precision",
        "area": "average precision",
        "legend": "lower left",
        "guess": "Thin lines: the share of the class, the precision of guessing.",
    },
}
_STYLE = {"font.size": 11.0, "font.family": "DejaVu Sans", "svg.hashsalt": "isograft", "axes.spines.top": False, "axes.spines.right": False}


@dataclass(frozen=True)
class Picture:
    """A picture inside a page.

    Attributes:
        source: A `data:` address with the whole picture.
        alt: What it shows, for those who do not see it.
        caption: One line under it.
    """

    source: str
    alt: str
    caption: str = ""


def confusion_figure(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> Picture:
    """Draw true classes as rows and predicted classes as columns, shaded by the share of the row.

    Args:
        matrix: int (K, K) image counts.
        classes: K class names.
    """
    from matplotlib.ticker import PercentFormatter

    counts = np.asarray(matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    told_in_cells = len(classes) <= 8
    side = 2.0 + 0.62 * len(classes) if told_in_cells else min(9.0, 2.6 + 0.75 * len(classes))
    names = [short_name(name, 18) for name in classes]
    if len(set(names)) < len(names):
        names = [short_name(name, 34) for name in classes]
    room = 0.08 * max(map(len, names)) if told_in_cells else 0.0  # inches that the longest name takes
    canvas, axes = new_canvas(side + (room if told_in_cells else 0.8), side + 0.6 * room)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.tick_params(labelsize=11 if len(classes) <= 16 else 8)
    turned = 0 if len(names) <= 2 and max(map(len, names)) <= 10 else 35 if len(names) <= 16 else 90
    axes.set_xticks(range(len(names)), names, rotation=turned, ha="right" if turned == 35 else "center")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", ylabel="true")
    axes.spines[:].set_visible(False)
    if len(classes) <= 16:
        for row, column in np.ndindex(*counts.shape):
            percent = f"\n{shares[row, column]:.0%}" if told_in_cells and counts[row].any() else ""
            text = f"{counts[row, column]:,}{percent}"
            axes.text(column, row, text, ha="center", va="center", size=10, color="white" if shares[row, column] > 0.55 else "black")
    if not told_in_cells:
        canvas.colorbar(image, ax=axes, label="share of the true class", format=PercentFormatter(1), fraction=0.046)
    told = "; ".join(f"of {counts[k].sum()} {name}, {counts[k, k]} right" for k, name in enumerate(classes))
    return Picture(
        as_svg(canvas), f"Confusion matrix. {told}.", "Rows: true class. Columns: predicted class. Number of images and share of the row."
    )


def curve_figure(kind: str, curves: dict[str, tuple[Curve, float]], chance: dict[str, float] | None = None) -> Picture:
    """Draw one curve per class against the rest.

    Args:
        kind: `roc` or `pr`.
        curves: Class name to its curve and the area under it; at most `MOST_CURVES` are drawn, the first ones.
        chance: For `pr`, the share of each class: the precision of guessing.
    """
    canvas, axes = new_canvas(5.2, 5.0)
    shown = list(curves.items())[:MOST_CURVES]
    for place, (name, (curve, area)) in enumerate(shown):
        style: dict[str, Any] = {"color": COLOURS[place], "linestyle": DASHES[place]}
        draw = axes.step if kind == "pr" else axes.plot  # precision between two points of a precision-recall curve is not on a line
        draw(curve.x, curve.y, linewidth=2.0, label=f"{short_name(name, 22)} {area:.3f}", **style)
        if kind == "pr":
            axes.axhline((chance or {}).get(name, np.nan), linewidth=0.7, alpha=0.6, **style)
    if kind == "roc":
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=1)
    words = _CURVE_WORDS[kind]
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), aspect="equal", xlabel=words["x"], ylabel=words["y"])
    axes.grid(color="#e5e5e5")
    axes.legend(title=words["area"], loc=words["legend"], fontsize=9, framealpha=0.9)
    told = "; ".join(f"{label} {words['area']} {area:.3f}" for label, (_, area) in curves.items())
    left_out = f" Drawn: the {len(shown)} classes with the most images of {len(curves)}." if len(shown) < len(curves) else ""
    return Picture(
        as_svg(canvas),
        f"{words['name']} curves, each class against the rest: {told}.",
        f"{words['name']} curves of each class against the rest. {words['guess']}{left_out}",
    )


def history_figure(columns: dict[str, Sequence[Any]]) -> Picture | None:
    """Draw every numeric column of a training history, losses together, scores together, the rest apart.

    Args:
        columns: Column name to values, None where a row has none; `step`, `epoch` and `phase` name the rows.

    Returns:
        The picture, or None when there is nothing to draw (fewer than two values in every column).
    """
    series = _history_series(columns)
    panels = _history_panels(series)
    if not panels:
        return None
    across = 2 if len(panels) > 1 else 1
    canvas, grid = new_canvas(4.6 * across, 3.1 * -(-len(panels) // across), -(-len(panels) // across), across)
    flat = list(np.atleast_1d(grid).flat)
    for axes, (title, names) in zip(flat, panels, strict=False):
        for place, name in enumerate(names[:MOST_CURVES]):
            x, y = series[name]
            axes.plot(x, y, color=COLOURS[place], linestyle=DASHES[place], linewidth=1.6, marker="." if len(x) < 30 else "", label=name)
        if title == "learning rate":
            axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
        axes.set(title=title, xlabel="step" if _is_rising(columns.get("step")) else "row of the history")
        axes.grid(color="#e5e5e5")
        if len(names) > 1:
            axes.legend(fontsize=9)
    for axes in flat[len(panels) :]:
        axes.remove()
    told = "; ".join(f"{name} from {y[0]:.4g} to {y[-1]:.4g}" for name, (_, y) in series.items())
    return Picture(as_svg(canvas), f"Training curves: {told}.", "What was recorded during training.")


def thumbnail(pixels: npt.NDArray[np.uint8], alt: str, side: int = 160) -> Picture:
    """Shrink a photograph for the page: uint8 (H, W, 3) RGB, long side at most `side` pixels, JPEG."""
    return coded_picture(jpeg(pixels, side), alt)


def coded_picture(content: bytes, alt: str) -> Picture:
    """A JPEG for the page, as it is."""
    return Picture("data:image/jpeg;base64," + base64.b64encode(content).decode(), alt)


def new_canvas(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Canvas, Any]:
    """A figure of `width` by `height` inches without any window system."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        canvas = Figure(figsize=(width, height), layout="constrained")
        return canvas, canvas.subplots(rows, columns)


def as_svg(canvas: Canvas) -> str:
    """The figure as an SVG address: letters as outlines, no date, no reference to anything outside, same bytes each time."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context(_STYLE):
        canvas.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = re.sub(r"<!DOCTYPE.*?>|<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    return "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode()


def _history_series(columns: dict[str, Sequence[Any]]) -> dict[str, tuple[list[float], list[float]]]:
    """Points of every numeric column by name; a column written by interleaved phases becomes one series per phase."""
    rows = max((len(values) for values in columns.values()), default=0)
    steps = columns.get("step")
    x = [float(step) for step in steps] if steps is not None and _is_rising(steps) else [float(row) for row in range(rows)]
    phases = [str(phase) for phase in columns.get("phase", [""] * rows)]
    turns = sum(one != other for one, other in pairwise(phases))
    interleaved = turns >= len(set(phases)) > 1
    series: dict[str, tuple[list[float], list[float]]] = {}
    for name, values in columns.items():
        if name in {"step", "epoch", "phase"}:
            continue
        points = [(x[row], number, phases[row]) for row, value in enumerate(values) if (number := _number(value)) is not None]
        used = list(dict.fromkeys(phase for _, _, phase in points)) if interleaved else []
        for phase in used if len(used) > 1 else [None]:
            chosen = [(a, b) for a, b, owner in points if phase is None or owner == phase]
            if len(chosen) > 1:
                series[name if phase is None else f"{name} ({phase})"] = ([a for a, _ in chosen], [b for _, b in chosen])
    return series


def _history_panels(series: dict[str, tuple[list[float], list[float]]]) -> list[tuple[str, list[str]]]:
    """Panel titles and their series, at most eight panels."""
    panels: dict[str, list[str]] = {}
    for name, (_, y) in series.items():
        if "loss" in name:
            title = "loss"
        elif re.match(r"(lr|learning_rate)(_|$)", name):
            title = "learning rate"
        elif re.search(r"f1|acc|auc|recall|precision|kappa|mcc|score", name) and min(y) >= -1 and max(y) <= 1:
            title = "scores"
        else:
            title = name
        panels.setdefault(title, []).append(name)
    first = [title for title in ("loss", "scores") if title in panels]
    return [(title, panels[title]) for title in [*first, *(title for title in panels if title not in first)]][:8]


def _is_rising(steps: Sequence[Any] | None) -> bool:
    """Whether these are step numbers that never fall, so that they can be an axis."""
    numbers = [_number(step) for step in steps or []]
    return bool(numbers) and all(a is not None and b is not None and a <= b for a, b in pairwise(numbers))


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def short_name(name: str, most: int) -> str:
    """A class name that fits beside an axis; dollar signs would start a formula."""
    text = name if len(name) <= most else name[: most - 1] + "…"
    return text.replace("$", r"\$")
