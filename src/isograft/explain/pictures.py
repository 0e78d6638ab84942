"""Heatmaps for the eye: colours over the image, a legend, and the sheet of both that is written as a file.

Colour scales: `viridis`, even in lightness, readable with a colour-vision deficiency and in grey print (`cividis` was tried: over
a grey image its band of strong blue near zero looks like an outline); for maps with a sign orange and violet (`PuOr`, ColorBrewer),
equally light on both sides of a pale zero. The image below is grey, so that no colour of its own is taken for one of the map.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from isograft.explain.heatmap import Heatmap
from isograft.report.figures import Picture, new_canvas

Image = npt.NDArray[np.uint8]

SIDE = 320
_COVER = 0.62
_SMOOTHED = {"integrated-gradients": 48}
"""Methods with a value of its own for every pixel, and the part of the side by which the picture (not the array) is smoothed."""


@dataclass(frozen=True)
class Shown:
    """An image and its map, ready to be looked at.

    Attributes:
        image: uint8 (h, w, 3) RGB, long side `SIDE`.
        overlay: uint8 (h, w, 3) RGB, the map's colours over the grey image.
        largest: The value at the end of the colour scale; 0 for a map that is empty.
    """

    image: Image
    overlay: Image
    largest: float


def show(image: Image, heatmap: Heatmap, side: int = SIDE) -> Shown:
    """Lay a map over its image.

    Args:
        image: uint8 (H, W, 3) RGB: the whole field that the network saw, in any size and shape.
        heatmap: The map, which is stretched to the image.
        side: Long side of what is shown, in pixels.
    """
    scale = side / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    sized = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), dtype=np.uint8)
    heat, largest = painted(heatmap, size)
    grey = cv2.cvtColor(cv2.cvtColor(sized, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.float64)
    mixed = (1 - _COVER) * grey + _COVER * 255 * heat
    return Shown(sized, np.clip(np.rint(mixed), 0, 255).astype(np.uint8), largest)


def painted(heatmap: Heatmap, size: tuple[int, int]) -> tuple[npt.NDArray[np.float64], float]:
    """The colours of a map alone, stretched to (width, height): float64 (h, w, 3) in [0, 1], and the value at the end of their scale."""
    values = _smooth(heatmap)
    largest = float(np.abs(values).max())
    wide = cv2.resize(values, size, interpolation=cv2.INTER_LINEAR)
    return colours(wide / largest if largest else wide, heatmap.about.signed), largest


def colours(shares: npt.NDArray[np.float32], signed: bool) -> npt.NDArray[np.float64]:
    """Colours of values that were divided by the largest: float (...) in [0, 1], or [-1, 1] when signed, to RGB (..., 3) in [0, 1]."""
    import matplotlib as mpl

    scale = mpl.colormaps["PuOr_r" if signed else "viridis"]
    painted: npt.NDArray[np.float64] = scale((shares + 1) / 2 if signed else shares)[..., :3]
    return painted


def legend(signed: bool) -> Picture:
    """The colour scale as a strip, lowest on the left."""
    strip = np.linspace(-1 if signed else 0, 1, 256, dtype=np.float32)[None].repeat(16, axis=0)
    pixels = np.rint(255 * colours(strip, signed)).astype(np.uint8)
    ends = "violet (against the class), pale (neither), orange (for the class)" if signed else "dark violet (nothing) to yellow (most)"
    return png_picture(pixels, f"Colour scale from {ends}.")


def ends(shown: Shown, signed: bool) -> tuple[str, str]:
    """What stands at the two ends of the legend: the values there."""
    return (f"−{shown.largest:.3g}" if signed else "0", f"{shown.largest:.3g}")


def sheet(shown: Shown, heatmap: Heatmap, title: str) -> bytes:
    """The image, the overlay and the legend side by side, as the bytes of a PNG file, the same each time.

    Args:
        shown: From `show`.
        heatmap: Its map.
        title: One line above.
    """
    from matplotlib import cm
    from matplotlib.colors import Normalize

    about = heatmap.about
    height, width = shown.image.shape[:2]
    canvas, axes = new_canvas(2 * 3.2 * width / max(height, width) + 1.5, 3.2 * height / max(height, width) + 0.75, 1, 2)
    for place, (pixels, name) in enumerate(((shown.image, "image"), (shown.overlay, about.title))):
        axes[place].imshow(pixels, interpolation="none")
        axes[place].set_title(name, fontsize=10)
        axes[place].set_axis_off()
    top = shown.largest or 1.0
    scale = cm.ScalarMappable(Normalize(-top if about.signed else 0, top), "PuOr_r" if about.signed else "viridis")
    bar = canvas.colorbar(scale, ax=axes, fraction=0.05, label=f"speaks for the class ({about.unit})")
    bar.ax.tick_params(labelsize=8)
    bar.ax.yaxis.label.set_fontsize(8)
    canvas.suptitle(title.replace("$", r"\$"), fontsize=10)
    return png(canvas)


def png(canvas: object) -> bytes:
    """A matplotlib figure as the bytes of a PNG file without date or maker."""
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=110, metadata={"Software": None})  # type: ignore[attr-defined]
    return buffer.getvalue()


def png_picture(pixels: Image, alt: str) -> Picture:
    """Pixels uint8 (H, W, 3) RGB inside a page, without loss."""
    import base64

    _, coded = cv2.imencode(".png", np.ascontiguousarray(pixels[..., ::-1]))
    return Picture("data:image/png;base64," + base64.b64encode(coded.tobytes()).decode(), alt)


def where(heatmap: Heatmap) -> str:
    """The place of the largest value in words, for those who do not see the picture; empty when nothing speaks for the class."""
    values = _smooth(heatmap)
    if not values.max() > 0:
        return ""
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    vertical = ("top", "middle", "bottom")[min(2, 3 * int(row) // values.shape[0])]
    horizontal = ("left", "centre", "right")[min(2, 3 * int(column) // values.shape[1])]
    return "in the centre" if (vertical, horizontal) == ("middle", "centre") else f"at the {vertical} {horizontal}"


def _smooth(heatmap: Heatmap) -> npt.NDArray[np.float32]:
    part = _SMOOTHED.get(heatmap.method)
    if part is None:
        return heatmap.values
    smooth: npt.NDArray[np.float32] = cv2.GaussianBlur(
        heatmap.values, (0, 0), max(0.8, heatmap.values.shape[0] / part), borderType=cv2.BORDER_REFLECT
    )
    return smooth
