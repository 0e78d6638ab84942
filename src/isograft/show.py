"""`isograft show`: a model's lineage, its plan with reasons, and its figures, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from isograft import console
from isograft.lineage import lineage_text
from isograft.passport import open_passport
from isograft.settings import ShowSettings

if TYPE_CHECKING:
    from isograft.model import Model

_LONGEST = 60


def show(settings: ShowSettings) -> str:
    """Print what a model is, where it comes from, how it was made and how it did; return the text.

    Raises:
        IsograftError: The folder is no model folder, a file in it is damaged, or it is not the model that a seal asks for.
    """
    open_passport(settings.model)  # before torch is loaded
    from isograft.model import Model

    text = describe(Model.load(settings.model))
    console.result(text)
    return text


def describe(model: Model) -> str:
    """The model in words, one section after another."""
    passport = model.passport
    backbone, preprocess = passport.backbone, passport.preprocess
    arguments = "".join(f", {key}={value}" for key, value in backbone.arguments.items())
    facts = {
        "kind": passport.kind,
        "network": f"{backbone.name}{arguments} ({backbone.features} features)",
        "head": passport.head,
        "networks": passport.members if passport.members > 1 else None,
        "classes": ", ".join(passport.classes) if passport.classes else None,
        "input": f"{preprocess.image_size} x {preprocess.image_size} px RGB",
        "method": passport.method,
        "images seen": f"{model.seen()['pixel_hash'].n_unique():,} by this model and its ancestors",
        "content hash": model.content_hash,
        "seal": model.seal,
        "files": _files(model),
    }
    sections = [str(model.folder), _columns([(name, value) for name, value in facts.items() if value is not None])]
    sections += ["Lineage", _indent(lineage_text(model))]
    sections += ["Plan", _columns([(str(one.get("name")), f"{_short(one.get('value'))}  ({one.get('reason')})") for one in passport.plan])]
    sections += ["Figures", _columns([(name, _short(value)) for name, value in _flatten(passport.metrics)])]
    if passport.kind == "classifier":
        sections += ["How its answers are to be taken", _columns(_judged(model))]
    sections += ["Software", _columns(list(passport.software.items()))]
    if passport.citations:
        sections += ["Please cite", _indent("\n".join(passport.citations))]
    return "\n".join(sections)


def _files(model: Model) -> str:
    """What the seal stands for, all of it checked when the model was opened, and what lies beside it."""
    listed = model.passport.files
    there = {path.relative_to(model.folder).as_posix() for path in model.folder.rglob("*") if path.is_file()}
    parts = [f"{len(listed.keys() & there)} as sealed"]
    for what, names in (("left out", listed.keys() - there), ("not sealed", there - listed.keys())):
        parts += [f"{what}: {', '.join(sorted(names))}"] if names else []
    return "; ".join(parts)


def _judged(model: Model) -> list[tuple[str, Any]]:
    """Temperature, prediction sets, out-of-domain threshold and the thresholds asked for, or why there are none."""
    judgement = model.judgement()
    if judgement.missing:
        return [("nothing is calibrated", judgement.missing)]
    rows: list[tuple[str, Any]] = [("fitted on", judgement.fitted_on), ("temperature", _short(judgement.temperature))]
    if judgement.sets:
        always = f"; {', '.join(judgement.always_held)} always" if judgement.always_held else ""
        rows.append(("prediction sets", f"hold the true class in {next(iter(judgement.sets.values())).coverage:.0%} of images{always}"))
    told = (
        f"nearest labeled images, chosen on {judgement.domains[0].images:,}" if judgement.domains else "unknown without the labeled cases"
    )
    rows.append(("out of domain", told))
    for point in judgement.points:
        if point.by_hand:
            threshold = "could not be chosen" if point.threshold is None else f"probability of {point.of} >= {point.threshold:.4g}"
            rows.append((point.name, f"{threshold}  ({point.rule})"))
    return rows


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested figures one by one, by dotted names; lists are left out, they are for the report."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        elif not isinstance(value, list):
            yield f"{prefix}{name}", value


def _columns(rows: list[tuple[str, Any]]) -> str:
    if not rows:
        return "  none"
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows)


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _short(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else "undefined" if value is None else str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
