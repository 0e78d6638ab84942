"""How a study's numbers came about and what they do not show, as sentences that follow from the study at hand."""

from __future__ import annotations

from collections.abc import Sequence

from isograft.study.findings import Finding
from isograft.study.folder import StudyFolder
from isograft.study.statistics import FEWEST_GROUPS, FEWEST_REPEATS
from isograft.study.verdict import FIGURE_WORDS

_INTERVALS = (
    "Intervals are of 95 % and hold for new patients of the same population and for newly drawn training labels. They count that few "
    "groups were tested (jackknife over groups), that few splits were drawn, and that splits of one data set share test and training "
    "groups. For differences between arms their coverage was measured on simulated studies (docs/explanation/statistics.md); for single "
    "arms, protocol effects and labels saved it was not."
)
_PROBED = (
    "The strategy is a probe: a linear head is trained on frozen features. So scratch is a head on random, untrained features, not a "
    "network trained from scratch, and the figures tell how good features are, not how far a whole training would get. A task within a "
    "chain is trained as a whole."
)
_BY_START = (
    "All arms get the same rows and at most the same number of passes over them. What follows from the start does differ, as it would in "
    "use: from scratch everything is trained at once with batch statistics of its own, from pretrained weights the head comes first and "
    "statistics may be frozen; early stopping ends each run by its own validation images; and the variations of images are those measured "
    "on the pool where an arm was pretrained on one, on the task otherwise."
)
_LEAKY = (
    "Under leaky-pool and paper all images of the task stand in the pool without their labels, those of the training side too: part of the "
    "effect is the honest gain of a pool that is closer to the task."
)
_UNKNOWN_PAST = (
    "A weights file does not say what it was trained on. Whether the network behind {files} has seen the test images is not known."
)
_PRETRAINED = (
    "A pretraining that several repeats share was run once, with one seed: how much another pretraining run would differ is in no interval."
)
_SAVINGS = "A label saving is read off monotone curves between the label budgets tried; nothing is said beyond the largest."
_UNGROUPED = "Where as many groups as images were tested, the data name no patient or lesion: images of one patient pass for independent."
_ELSEWHERE = (
    "All images of a task come from one data set: another hospital, device or population was not tested. Labels were taken as given."
)


def unfinished(found: Sequence[Finding]) -> list[str]:
    """Warnings about runs that are not there."""
    missing = sum(one.missing for one in found)
    if not missing:
        return []
    runs = "One run of this study is" if missing == 1 else f"{missing:,} runs of this study are"
    return [f"{runs} not there. A comparison uses the repeats that have both its sides at every label budget that both have."]


def method_notes(study: StudyFolder, figure: str, found: Sequence[Finding]) -> list[str]:
    """What was done, what it rests on, and what was not examined."""
    fraction, words = float(study.spec.get("test_fraction", 0.4)), FIGURE_WORDS[figure]
    notes = [
        f"Every repeat holds out {fraction:.0%} of the groups (patients, lesions) and draws the training labels from the rest; smaller "
        "budgets are inside larger ones. All arms of a repeat are trained and tested on the same rows.",
        _PROBED if study.strategy == "probe" else _BY_START,
        _INTERVALS,
        f"The verdict rests on one difference per comparison: {words}, averaged over the label budgets. Gain or worse is said where its "
        "p-value, corrected over the comparisons of the task (Holm), is below 0.05. No evidence of a gain is not evidence of none.",
        f"Fewer than {FEWEST_REPEATS} repeats, or fewer than {FEWEST_GROUPS} tested groups, get no interval and no verdict.",
        _SAVINGS,
    ]
    if len(found) > 1:
        notes.append(f"The correction is within a task; {len(found)} (by task, backbone and protocol) were examined, each on its own.")
    if study.fixed_splits:
        names = ", ".join(study.fixed_splits)
        notes.append(f"{names}: the data name their own test images, the same in every repeat; only training labels are drawn.")
    if {"leaky-pool", "paper"} & {*study.spec.get("protocols", ())}:
        notes.append(_LEAKY)
    if study.unknown_past:
        notes.append(_UNKNOWN_PAST.format(files=", ".join(study.unknown_past)))
    if any("pool:" in step for chain in study.spec.get("arms", {}).values() for step in chain):
        notes.append(_PRETRAINED)
    if any(one.test_groups == one.test_images for one in found):
        notes.append(_UNGROUPED)
    return [*notes, _ELSEWHERE]
