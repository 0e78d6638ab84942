from __future__ import annotations

from pathlib import Path

import pytest

from isograft.plan import Plan
from isograft.settings import FinetuneSettings
from isograft.train.finetune_plan import plan_finetuning, usual_epochs


@pytest.mark.parametrize("strategy", ["full", "probe-then-full", "paper"])
@pytest.mark.parametrize("images", [1, 12, 33, 64, 1000])
def test_the_usual_passes_are_those_that_a_run_makes(strategy: str, images: int) -> None:
    plan = Plan()
    settings = FinetuneSettings(data="d", out=Path("o"), init="scratch", strategy=strategy)  # type: ignore[arg-type]
    plan_finetuning(plan, settings, train_images=images, validated=False, started=False, kept_statistics=False)
    assert usual_epochs(strategy, images) == plan["epochs"]
