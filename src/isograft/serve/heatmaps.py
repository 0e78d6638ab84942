"""A heatmap as the page shows it: the image, and the map's colours to lay over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from isograft.explain.explainer import Explainer
from isograft.explain.heatmap import METHODS
from isograft.explain.pictures import ends, legend, painted, png_picture, show, where
from isograft.inference import Image
from isograft.serve.answers import ExplainAnswer, HeatmapMethod

SIDE = 512
"""Long side of what is shown, in pixels."""


def explained(explainer: Explainer, square: Image, whole: Image, classes: Sequence[str], target: int, model: str) -> ExplainAnswer:
    """Explain one image.

    Args:
        explainer: Of the model.
        square: uint8 (S, S, 3), what the network sees.
        whole: uint8 (h, w, 3), the same field in its own shape.
        classes: K class names.
        target: The class to explain.
        model: The `content_hash` of the model.
    """
    heatmap = explainer.explain(square, target)
    signed, seen = heatmap.about.signed, show(whole, heatmap, SIDE)
    height, width = seen.image.shape[:2]
    heat, largest = painted(heatmap, (width, height))
    return ExplainAnswer(
        **_facts(heatmap.method),
        model=model,
        target=classes[target],
        largest=largest,
        note=heatmap.note,
        where=where(heatmap),
        image=png_picture(seen.image, "").source,
        heat=png_picture(np.rint(255 * heat).astype(np.uint8), "").source,
        legend=legend(signed).source,
        ends=list(ends(seen, signed)),
    )


def method(explainer: Explainer) -> HeatmapMethod:
    """How a model is explained."""
    return HeatmapMethod(**_facts(explainer.method), reason=explainer.reason)


def _facts(name: str) -> dict[str, Any]:
    """The entries of `MethodFacts`."""
    about = METHODS[name]
    return {"method": name} | {entry: getattr(about, entry) for entry in ("title", "shows", "limits", "unit", "signed")}
