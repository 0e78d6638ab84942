"""What a task's numbers say, in plain words written from them; "no" and "cannot tell" are answers too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from isograft.study.comparison import Comparison
from isograft.study.labels_needed import LabelsNeeded
from isograft.study.statistics import FEWEST_GROUPS, FEWEST_REPEATS, LEVEL, Estimate

Kind = Literal["gain", "worse", "no evidence of a gain", "too few repeats to tell", "too few groups to tell"]
FIGURE_WORDS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_precision": "precision",
    "macro_recall": "recall",
    "macro_f1": "macro F1",
    "macro_roc_auc": "ROC AUC",
    "mcc": "Matthews correlation",
}


@dataclass(frozen=True)
class Verdict:
    """The answer for one comparison.

    Attributes:
        arm: The arm.
        baseline: What it is compared with.
        kind: The answer.
        sentences: The answer in words, with its numbers.
    """

    arm: str
    baseline: str
    kind: Kind
    sentences: str


def judge(comparison: Comparison, figure: str, comparisons: int, budgets: int) -> Verdict:
    """Answer whether an arm is better than a baseline.

    Args:
        comparison: The paired differences.
        figure: Which figure they are differences of.
        comparisons: How many comparisons of the task were corrected for.
        budgets: How many label budgets the difference is averaged over.
    """
    kind = answer(comparison.overall, comparison.adjusted)
    arm, base, overall = comparison.arm, comparison.baseline, comparison.overall
    words = FIGURE_WORDS[figure]
    where = f" on average over {budgets} label budgets" if budgets > 1 else ""
    if overall.low is None or overall.high is None or overall.p is None:
        return Verdict(arm, base, kind, _cannot_tell(comparison, kind, words, where))
    interval = f"95 % interval {signed(overall.low)} to {signed(overall.high)}"
    corrected = f", corrected for {comparisons} comparisons" if comparisons > 1 else ""
    probability = p_value(comparison.adjusted, "= ")
    numbers = f"{words} {signed(overall.value)}{where} ({interval}; p {probability}{corrected})"
    times = _times(comparison)
    if kind == "gain":
        return Verdict(arm, base, kind, f"{arm} is better than {base}: {numbers}. {times}")
    if kind == "worse":
        return Verdict(arm, base, kind, f"{arm} is worse than {base}: {numbers}. {times}")
    return Verdict(
        arm, base, kind, f"There is no evidence that {arm} is better than {base}, nor that it is worse: {numbers}. {_open(overall)}"
    )


def answer(overall: Estimate, adjusted: float | None) -> Kind:
    """The answer that a difference and its corrected p-value give."""
    if overall.repeats < FEWEST_REPEATS:
        return "too few repeats to tell"
    if overall.p is None or adjusted is None:
        return "too few groups to tell"
    if adjusted >= 1 - LEVEL:
        return "no evidence of a gain"
    return "gain" if overall.value > 0 else "worse"


def headline(verdicts: Sequence[Verdict]) -> str:
    """The answers of a task in one line: what is better or worse by name, the rest by number."""
    said = []
    for kind, words in (("gain", "better than"), ("worse", "worse than")):
        by_arm: dict[str, list[str]] = {}
        for verdict in verdicts:
            if verdict.kind == kind:
                by_arm.setdefault(verdict.arm, []).append(verdict.baseline)
        said += [f"{arm} is {words} {' and '.join(baselines)}" for arm, baselines in by_arm.items()]
    kinds: list[str] = [verdict.kind for verdict in verdicts]
    for kind in ("no evidence of a gain", "too few repeats to tell", "too few groups to tell"):
        if number := kinds.count(kind):
            said.append(f"{kind} in {_counted(number, len(kinds), other=bool(said))}")
    return _sentence("; ".join(said)) if said else "Nothing was compared."


def _counted(number: int, of: int, other: bool) -> str:
    """So many comparisons of a task in words."""
    if number == of:
        return "the one comparison" if of == 1 else f"any of {of} comparisons"
    return f"{number} {'other ' * other}comparison{'s' * (number > 1)}"


def _sentence(text: str) -> str:
    """Words as a sentence; the name of an arm keeps its spelling."""
    starts = ("no evidence", "too few")
    return f"{text[0].upper() if text.startswith(starts) else text[0]}{text[1:]}."


def saving_sentence(saving: LabelsNeeded) -> str:
    """A label saving in words."""
    given = f"{saving.given:.0f} labels per class"
    if saving.needed is None:
        if saving.low >= saving.most:
            return f"With {given}, {saving.better} is better than {saving.worse} even with the most that were tried, {saving.most:.0f}."
        return (
            f"With {given}, {saving.better} is as good as {saving.worse} with at least {saving.low:.0f} (lower end of 95 %); "
            f"up to the most that were tried, {saving.most:.0f}, {saving.worse} does not catch up on average."
        )
    high = f"to {saving.high:.0f}" if saving.high is not None else f"to more than {saving.most:.0f}"
    return (
        f"With {given}, {saving.better} matches {saving.worse} with about {saving.needed:.0f}, by interpolation "
        f"(95 %: {saving.low:.0f} {high})."
    )


def signed(value: float) -> str:
    """A difference to three digits with its sign; a true minus."""
    text = f"{value:+.3f}"
    return text.replace("-", "−") if float(text) else "0.000"


def p_value(value: float | None, equals: str = "") -> str:
    """A p-value for reading, after `equals` where it is not below a bound."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{equals}{value:.3f}"


def _times(comparison: Comparison) -> str:
    repeats = comparison.wins + comparison.ties + comparison.losses
    ties = f", level in {comparison.ties}" if comparison.ties else ""
    return f"It was ahead in {comparison.wins} of {repeats} repeats{ties}."


def _open(overall: Estimate) -> str:
    """What an interval around zero leaves open."""
    low, high = overall.low or 0.0, overall.high or 0.0
    if low > 0 or high < 0:
        return "The interval alone excludes zero; after correction for the number of comparisons that may be chance."
    return f"What the data leave open reaches from a loss of {abs(low):.3f} to a gain of {high:.3f}."


def _cannot_tell(comparison: Comparison, kind: Kind, words: str, where: str) -> str:
    overall = comparison.overall
    question = f"whether {comparison.arm} is better than {comparison.baseline}"
    seen = f" The observed difference in {words} was {signed(overall.value)}{where}." if overall.repeats else ""
    if kind == "too few repeats to tell":
        repeats = f"{overall.repeats} repeat{'' if overall.repeats == 1 else 's'}"
        return f"Too few repeats to tell {question}: {repeats} had both, and {FEWEST_REPEATS} are needed.{seen}"
    reason = f"at least {FEWEST_GROUPS} are needed, and no figure may hang on a single one of them"
    return f"Too few groups to tell {question}: {overall.groups} were tested; {reason}.{seen}"
