"""Labels that can be told without looking at what an image shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from isograft.assess.shortcuts import FOLDS, Probe, probe
from isograft.audit.findings import Finding
from isograft.audit.survey import Survey
from isograft.data.shortcuts import BORDER, COLOUR, CORNERS, FILE

WARNED = {FILE: 0.75, BORDER: 0.75, CORNERS: 0.75, COLOUR: 0.95}
"""A probe is warned of where the whole 95 % interval of its AUC lies above this. Border, corners and files carry a little honest
information (a large lesion reaches the border, a textured image compresses badly), and colour may carry most of it (an ulcer is red)."""

_WORDS = {
    FILE: "the file alone (size, shape, bytes, compression)",
    BORDER: "the border alone (6 % of each side)",
    CORNERS: "the four corners alone (8 % of the shorter side)",
    COLOUR: "8 x 8 pixels",
}


def shortcuts(one: Survey) -> Iterator[Finding]:
    """How well a linear model tells the label from each probe, and a warning for each that tells it too well."""
    if not one.features:
        return
    frame = one.manifest.frame
    labeled = frame["label"].is_not_null().to_numpy()
    labels, groups = one.manifest.labels()[labeled], one.manifest.groups()[labeled]
    keys = frame.filter(labeled)["pixel_hash"].to_list()
    judged = [probe(name, features[labeled], labels, groups, keys) for name, features in one.features.items()]
    told = [one for one in judged if one is not None]
    if not told:
        why = f"no two classes have {FOLDS} groups each, so it was not tried whether the label shows in file, border, corners or colour."
        yield Finding("shortcut", "note", one.name, why[0].upper() + why[1:])
        return
    for result in told:
        if result.low > WARNED[result.name]:
            yield Finding("shortcut", "warning", one.name, _warning(result), result.images, facts=_figures(result))
    table = pl.DataFrame([_figures(result) for result in told])
    text = "How well a linear model tells the label of images of other groups from what should not tell it (AUC; 0.5 is guessing): "
    figures = ", ".join(f"{result.name} {result.auc:.2f}" for result in told)
    yield Finding("shortcut", "note", one.name, f"{text}{figures}.", len(told), table)


def _warning(result: Probe) -> str:
    return (
        f"From {_WORDS[result.name]} a linear model tells the label of images of other groups with an AUC of {result.auc:.2f} "
        f"(95 % interval {result.low:.2f} to {result.high:.2f}; {result.images:,} images of {result.groups:,} groups): a network can learn "
        "that instead of what matters; find out where it comes from, and crop or balance it away."
    )


def _figures(result: Probe) -> dict[str, Any]:
    return {
        "probe": result.name,
        "auc": round(result.auc, 3),
        "auc_low": round(result.low, 3),
        "auc_high": round(result.high, 3),
        "balanced_accuracy": round(result.balanced_accuracy, 3),
        "chance": round(result.chance, 3),
        "warned_above": WARNED[result.name],
    }
