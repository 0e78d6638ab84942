"""Coverage or uncertainty: what `--strategy auto` decides, and what is said of each choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from isograft.errors import IsograftError
from isograft.settings import SuggestSettings
from isograft.suggest import coverage, uncertainty
from isograft.suggest.pool import Choice, Floats, Pool

if TYPE_CHECKING:
    from isograft.model import Model

ENOUGH = 10
"""Labels per class, on average, from which the doubts of the model choose; found by benchmarks/suggest.py on one data set."""

COVERAGE, UNCERTAINTY = "coverage", "uncertainty"


@dataclass(frozen=True)
class Decision:
    """How images are chosen.

    Attributes:
        strategy: `coverage` or `uncertainty`.
        reason: Why, in a few words.
    """

    strategy: str
    reason: str

    def choose(self, pool: Pool, p: Floats, n: int, seed: int) -> list[Choice]:
        """The n candidates to label, best first.

        Args:
            pool: N candidates.
            p: float64 (N, K) probabilities; unused for coverage.
            n: How many, at most N.
            seed: Seed of the draws.
        """
        if self.strategy == COVERAGE:
            return coverage.typical(pool, n, seed)
        return uncertainty.unsure(pool, uncertainty.margins(p), n)

    def why(self, choice: Choice, p: Floats, classes: list[str]) -> str:
        """Why an image was chosen, in one phrase."""
        if self.strategy == UNCERTAINTY:
            one, other = np.argsort(-p[choice.row], kind="stable")[:2]
            return f"unsure between {classes[one]} and {classes[other]}"
        if choice.standing > 1:
            return f"typical of {choice.standing:,} images not covered yet"
        return "unlike all others" if choice.standing == 1 else "typical of images that few labels cover"


def decide(settings: SuggestSettings, model: Model) -> Decision:
    """Choose the strategy by the labels the model was trained on.

    Raises:
        IsograftError: Uncertainty is asked of a backbone.
    """
    classes = model.classes
    if not classes:
        if settings.strategy == UNCERTAINTY:
            raise IsograftError(
                f"--strategy uncertainty needs a classifier, but {settings.model} is a pretrained backbone; "
                "use coverage, label some images and finetune first"
            )
        return Decision(COVERAGE, "the model is a pretrained backbone, which knows no class")
    if settings.strategy != "auto":
        return Decision(settings.strategy, "as asked")
    cases = model.cases()
    if cases is None:
        return Decision(UNCERTAINTY, "the model was handed on without its labeled cases, so what they cover is not known")
    mean = len(cases.table) / len(classes)
    told = f"the model has {len(cases.table):,} labels, {mean:.3g} per class"
    if mean < ENOUGH:
        return Decision(COVERAGE, f"{told}, fewer than {ENOUGH}")
    return Decision(UNCERTAINTY, f"{told}, {ENOUGH} or more")
