"""The wrong answers of a model, the surest first, with their pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from isograft.report.figures import thumbnail

if TYPE_CHECKING:
    from isograft.report.evaluation import Evaluated

MOST_MISTAKES = 24


def confident_mistakes(labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Rows predicted wrongly, the most probable wrong answer first; ties keep the order of the rows."""
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    order: npt.NDArray[np.int64] = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")]
    return order


def mistakes(tested: Evaluated) -> dict[str, Any]:
    """The section about mistakes: `shown` and `text`."""
    rows = confident_mistakes(tested.labels, tested.probabilities)
    shown = [_mistake(tested, int(row)) for row in rows[:MOST_MISTAKES]]
    return {"shown": shown, "text": _text(len(rows), tested.metrics["n_images"], any(one["heatmap"] for one in shown))}


def _mistake(tested: Evaluated, row: int) -> dict[str, Any]:
    from isograft.data.containers import read_unchanged
    from isograft.data.readers import ReadError, to_rgb8
    from isograft.errors import Unreachable

    label, predicted = int(tested.labels[row]), int(tested.probabilities[row].argmax())
    true_name, called = tested.classes[label], tested.classes[predicted]
    try:
        pixels = to_rgb8(read_unchanged(tested.places[row], 1 << 40)[0].array)
        image = thumbnail(pixels, f"Image {tested.names[row]}, labeled {true_name}, predicted {called}.")
    except (ReadError, Unreachable):
        image = None
    p = tested.probabilities[row]
    return {
        "image": image,
        "heatmap": (tested.heatmaps or {}).get(row),
        "name": tested.names[row],
        "label": true_name,
        "predicted": called,
        "p_label": p[label],
        "p_predicted": p[predicted],
    }


def _text(wrong: int, total: int, explained: bool) -> str:
    shown = f" The {MOST_MISTAKES} with the most probable wrong answer are shown." if wrong > MOST_MISTAKES else ""
    told = f"{wrong:,} of {total:,} images were classified otherwise than labeled.{shown}"
    seen = (
        " Beside an image: where the model looked for its wrong answer. A heatmap shows what the answer hangs on, not why it is wrong."
        if explained
        else ""
    )
    return f"{told} In brackets: the probability the model gave. A label may be wrong, too.{seen}"
