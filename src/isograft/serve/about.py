"""What the server tells of its model: names and figures, and no path of this machine."""

from __future__ import annotations

from isograft._version import __version__
from isograft.judgement import SETS
from isograft.passport import CARD_FILE
from isograft.serve.answers import Limits, ModelAnswer, OperatingPoint
from isograft.serve.heatmaps import method
from isograft.serve.service import Service
from isograft.show import describe


def about(service: Service) -> ModelAnswer:
    """The model as the page shows it."""
    model, judgement = service.model, service.judgement
    passport, rule = model.passport, judgement.sets.get(SETS)
    name = model.folder.resolve().name
    card = model.folder / CARD_FILE
    return ModelAnswer(
        name=name,
        classes=service.classes,
        image_size=model.preprocess.image_size,
        backbone=passport.backbone.name,
        method=passport.method,
        created=passport.created,
        content_hash=model.content_hash,
        licence=str(passport.init.get("licence") or ""),
        calibrated=not judgement.missing,
        missing=judgement.missing,
        fitted_on=judgement.fitted_on,
        coverage=None if rule is None else rule.coverage,
        always_held=judgement.always_held,
        points=[
            OperatingPoint(name=point.name, of=point.of, rule=point.rule, threshold=point.threshold, by_hand=point.by_hand)
            for point in judgement.points
        ],
        out_of_domain=bool(judgement.domains),
        heatmap=method(service.explainer),
        similar=service.similar_cases is not None,
        thumbnails=service.thumbnails is not None,
        card=card.read_text(encoding="utf-8") if card.is_file() else "",
        lineage=describe(model).replace(str(model.folder), name, 1),
        limits=Limits(megabytes=service.bounds.megabytes, megapixels=service.bounds.megapixels),
        labeling=service.labeling is not None,
        version=__version__,
    )
