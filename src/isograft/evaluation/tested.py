"""What was tested: a model, labeled images, and its answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from isograft.evaluation.labeled import LabeledData
from isograft.inference import Answer
from isograft.judgement import Judgement
from isograft.predictions import judged

if TYPE_CHECKING:
    from isograft.model import Model


@dataclass(frozen=True)
class Tested:
    """A model's answers to labeled images.

    Attributes:
        model: The model.
        data: N labeled images.
        leaked: bool (N,), which of them the model or an ancestor has seen.
        answers: N answers, before any calibration.
        judgement: How they are to be taken.
    """

    model: Model
    data: LabeledData
    leaked: npt.NDArray[np.bool_]
    answers: list[Answer]
    judgement: Judgement

    @property
    def classes(self) -> list[str]:
        """The model's K classes, in the order of its scores."""
        return list(self.model.classes or ())

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """True class numbers int64 (N,)."""
        return self.data.manifest.class_numbers(self.classes)

    @cached_property
    def groups(self) -> npt.NDArray[np.object_]:
        """Patient or lesion of each image, or the image itself: (N,)."""
        return self.data.manifest.groups()

    @cached_property
    def ids(self) -> npt.NDArray[np.str_]:
        """Ids of the images: (N,)."""
        return np.array(self.data.manifest.frame["id"].to_list(), dtype=str)

    @cached_property
    def votes(self) -> npt.NDArray[np.float64]:
        """What thresholds and sets are applied to: float64 (N, K)."""
        return self.judgement.votes(self.answers)

    @cached_property
    def said(self) -> pl.DataFrame:
        """The answers as columns, see `isograft.predictions.judged`: N rows."""
        return judged(self.answers, self.ids.tolist(), self.judgement, self.classes)

    @cached_property
    def probabilities(self) -> npt.NDArray[np.float64]:
        """Probabilities as the model gives them, calibrated where it can be: float64 (N, K)."""
        return self.judgement.probabilities(self.answers)
