"""What an exported model says about itself: the part of the passport that whoever runs it needs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from isograft._version import __version__
from isograft.judgement import SETS
from isograft.lineage import lineage_text

if TYPE_CHECKING:
    from isograft.model import Model

RESEARCH_ONLY = "For research use only. Not a medical device."


def about(model: Model) -> dict[str, Any]:
    """Classes, thresholds, lineage and licence of a model, JSON-ready.

    Returns:
        `classes`, in the order of the scores; `temperature`; `prediction_set`, the least probability with which each class is in
        the set (null: always); `operating_points`, each with its class and least probability; `calibration`, what these were fitted on,
        or why there are none; `preprocess`; `backbone`; `members`, how many networks; `lineage`; `licence` of the starting weights, where
        known; `citations`; `content_hash` of the model folder; `made_by`; `use`. A backbone has neither classes nor what is about them.
    """
    passport = model.passport
    of_classes = _about_classes(model) if passport.classes is not None else {}
    return {
        **of_classes,
        "preprocess": passport.preprocess.model_dump(mode="json"),
        "backbone": passport.backbone.model_dump(mode="json"),
        "members": passport.members,
        "lineage": lineage_text(model),
        "licence": licence(model),
        "citations": list(passport.citations),
        "content_hash": passport.content_hash,
        "made_by": f"isograft {__version__}",
        "use": RESEARCH_ONLY,
    }


def _about_classes(model: Model) -> dict[str, Any]:
    judgement = model.judgement()
    rule = judgement.sets.get(SETS)
    least = None if rule is None else [1 - t if t < float("inf") else None for t in rule.thresholds.tolist()]
    return {
        "classes": list(model.classes or ()),
        "temperature": judgement.temperature,
        "prediction_set": None if rule is None else {"coverage": rule.coverage, "least_probability": least},
        "operating_points": [
            {"name": point.name, "class": point.of, "rule": point.rule, "least_probability": point.threshold}
            for point in judgement.points
            if point.threshold is not None
        ],
        "calibration": f"missing: {judgement.missing}" if judgement.missing else f"fitted on {judgement.fitted_on}",
    }


def licence(model: Model) -> str:
    """What is known of the licence, in one sentence; that of the model itself is its maker's to choose."""
    init = model.passport.init
    known = f"starting weights {init.get('source') or 'unnamed'}: {init['licence']}" if init.get("licence") else ""
    began = known or "no licence of starting weights is known"
    return f"{began}; the maker of this model has stated none for it"


def as_text(facts: dict[str, Any]) -> dict[str, str]:
    """The facts as text, one entry each: text as it is, everything else as JSON."""
    return {name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for name, value in facts.items()}
