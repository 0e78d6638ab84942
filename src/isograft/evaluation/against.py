"""The comparison of a tested model with another one on the same images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from isograft.assess.comparison import compare
from isograft.data.places import short_name
from isograft.errors import IsograftError
from isograft.evaluation.answering import answers_to, leaked_rows
from isograft.evaluation.tested import Tested
from isograft.settings import EvaluateSettings

if TYPE_CHECKING:
    from isograft.evaluation.labeled import LabeledData
    from isograft.model import Model


class Other(NamedTuple):
    """The model to compare with, and which tested rows it or an ancestor has seen: bool (N,)."""

    model: Model
    leaked: npt.NDArray[np.bool_]


def open_other(model: Model, data: LabeledData, settings: EvaluateSettings) -> Other | None:
    """Open the model to compare with, before anything is classified; None where none is named.

    Raises:
        LeakageError: It has seen an image or a group that is tested.
        IsograftError: It has other classes, or is the same model.
    """
    from isograft.model import Model

    if settings.against is None:
        return None
    other = Model.load(settings.against)
    if other.content_hash == model.content_hash:
        raise IsograftError(f"--against {settings.against} is the tested model itself; give another one")
    if sorted(other.classes or ()) != sorted(model.classes or ()):
        raise IsograftError(
            f"--against {settings.against} knows the classes {', '.join(other.classes or ()) or 'none'}, but {settings.model} knows "
            f"{', '.join(model.classes or ())}; only models of the same classes can be compared"
        )
    other.symmetries(settings.tta)
    return Other(other, leaked_rows(other, data, settings.allow_leakage))


def compared(tested: Tested, other: Other, settings: EvaluateSettings) -> dict[str, Any]:
    """Ask the other model about the same images, and compare.

    Returns:
        `model`, `leakage`, and what `isograft.assess.comparison.compare` gives.
    """
    model = other.model
    p = model.judgement().probabilities(answers_to(model, tested.data, settings))
    order = [list(model.classes or ()).index(name) for name in tested.classes]
    return {
        "model": {"name": short_name(model.folder), "content_hash": model.content_hash},
        "leakage": {"images": int(other.leaked.sum())},
        **compare(tested.labels, tested.probabilities, p[:, order], tested.classes, tested.groups),
    }
