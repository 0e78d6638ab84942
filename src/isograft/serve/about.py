"""What the server tells of its model: names and figures, and no path of this machine."""

from __future__ import annotations

from typing import Any

from isograft._version import __version__
from isograft.judgement import SETS
from isograft.passport import CARD_FILE
from isograft.serve.answers import Limits, ModelAnswer, OperatingPoint
from isograft.serve.desk import Desk
from isograft.serve.heatmaps import method
from isograft.serve.service import Service
from isograft.show import describe


def about(desk: Desk) -> ModelAnswer:
    """The model as the page shows it."""
    model = desk.model
    passport = model.passport
    name = model.folder.resolve().name
    card = model.folder / CARD_FILE
    return ModelAnswer(
        name=name,
        classes=list(model.classes or ()),
        image_size=model.preprocess.image_size,
        backbone=passport.backbone.name,
        method=passport.method,
        created=passport.created,
        content_hash=model.content_hash,
        licence=str(passport.init.get("licence") or ""),
        card=card.read_text(encoding="utf-8") if card.is_file() else "",
        lineage=describe(model).replace(str(model.folder), name, 1),
        limits=Limits(megabytes=desk.bounds.megabytes, megapixels=desk.bounds.megapixels),
        labeling=desk.labeling is not None,
        version=__version__,
        **(_of_answers(desk) if isinstance(desk, Service) else _NO_ANSWERS),
    )


_NO_ANSWERS: dict[str, Any] = {
    "answers": False, "calibrated": False, "missing": "a pretrained backbone has no classes", "fitted_on": "", "coverage": None,
    "always_held": [], "points": [], "out_of_domain": False, "heatmap": None, "similar": False, "thumbnails": False,
}  # fmt: skip


def _of_answers(service: Service) -> dict[str, Any]:
    """How the answers of a classifier are to be taken, and what is shown beside them."""
    judgement = service.judgement
    rule = judgement.sets.get(SETS)
    return {
        "answers": True,
        "calibrated": not judgement.missing,
        "missing": judgement.missing,
        "fitted_on": judgement.fitted_on,
        "coverage": None if rule is None else rule.coverage,
        "always_held": judgement.always_held,
        "points": [
            OperatingPoint(name=point.name, of=point.of, rule=point.rule, threshold=point.threshold, by_hand=point.by_hand)
            for point in judgement.points
        ],
        "out_of_domain": bool(judgement.domains),
        "heatmap": method(service.explainer),
        "similar": service.similar_cases is not None,
        "thumbnails": service.thumbnails is not None,
    }
