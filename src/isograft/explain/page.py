"""The page about explanations: every image beside its heatmap, the cases most alike, and what all this does not show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isograft.data.places import short_name
from isograft.explain.entries import MOST_SHOWN, Gallery
from isograft.explain.explainer import Explainer
from isograft.explain.heatmap import METHODS
from isograft.explain.pictures import legend
from isograft.report.figures import Picture
from isograft.report.html import page

if TYPE_CHECKING:
    from isograft.model import Model


def explanation_page(
    model: Model,
    explainer: Explainer,
    gallery: Gallery,
    target: str | None,
    asked: tuple[int, list[tuple[str, str, str]]],
    features: list[Picture],
) -> str:
    """The whole page, with everything inside.

    Args:
        model: The model.
        explainer: What made the heatmaps.
        gallery: The images.
        target: The class that was asked about, or None for the predicted ones.
        asked: How many inputs there were, and uri, status and reason of those without a heatmap.
        features: Pictures of filters and feature maps.
    """
    about = METHODS[explainer.method]
    inputs, bad = asked
    return page(
        "explain.html.jinja",
        model=short_name(model.folder),
        content_hash=model.content_hash,
        summary=_summary(inputs, len(bad), target),
        method=about,
        method_name=explainer.method,
        reason=explainer.reason,
        scale=legend(about.signed),
        entries=gallery.entries,
        shown=f"The first {MOST_SHOWN} of {inputs - len(bad):,} are on this page; the others are in the folder."
        if inputs - len(bad) > MOST_SHOWN
        else "",
        cases=0 if gallery.cases is None else len(gallery.cases),
        missing=gallery.missing,
        bad=bad,
        features=features,
    )


def _summary(inputs: int, bad: int, target: str | None) -> str:
    what = "the class it predicts" if target is None else f"the class {target}"
    images = "1 image" if inputs - bad == 1 else f"{inputs - bad:,} images"
    return f"Where in {images} the model finds what speaks for {what}."
