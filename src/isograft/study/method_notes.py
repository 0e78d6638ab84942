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
    "groups. Their coverage was measured on simulated studies: docs/explanation/statistics.md."
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
        "budgets are inside larger ones. All arms of a repeat see the same rows and get the same number of passes over them.",
        _INTERVALS,
        f"The verdict rests on one difference per comparison: {words}, averaged over the label budgets. Gain or worse is said where its "
        "p-value, corrected over the comparisons of the task (Holm), is below 0.05. No evidence of a gain is not evidence of none.",
        f"Fewer than {FEWEST_REPEATS} repeats, or fewer than {FEWEST_GROUPS} tested groups, get no interval and no verdict.",
        _SAVINGS,
    ]
    if len(found) > 1:
        notes.append(f"The correction is within a task; {len(found)} (by task, backbone and protocol) were examined, each on its own.")
    if any("pool:" in step for chain in study.spec.get("arms", {}).values() for step in chain):
        notes.append(_PRETRAINED)
    if any(one.test_groups == one.test_images for one in found):
        notes.append(_UNGROUPED)
    return [*notes, _ELSEWHERE]
