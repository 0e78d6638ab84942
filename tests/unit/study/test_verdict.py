"""Verdicts in words, written from the numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isograft.study.comparison import Comparison
from isograft.study.labels_needed import LabelsNeeded
from isograft.study.statistics import Estimate
from isograft.study.verdict import headline, judge, p_value, saving_sentence, signed

SURE = Estimate(0.05, 5, 40, 0.01, 20.0, 0.03, 0.07, 0.0001)


def _compared(overall: Estimate, adjusted: float | None, wins: int = 5, losses: int = 0) -> Comparison:
    return Comparison("pool", "scratch", overall, adjusted, {}, {}, wins, 5 - wins - losses, losses)


def test_a_sure_gain_is_called_better_with_its_numbers() -> None:
    verdict = judge(_compared(SURE, 0.0004, wins=4), "macro_f1", 4, 3)
    assert verdict.kind == "gain"
    assert verdict.sentences == (
        "pool is better than scratch: macro F1 +0.050 on average over 3 label budgets (95 % interval +0.030 to +0.070; p < 0.001, "
        "corrected for 4 comparisons). It was ahead in 4 of 5 repeats, level in 1."
    )


def test_a_sure_loss_is_called_worse() -> None:
    verdict = judge(_compared(replace(SURE, value=-0.05, low=-0.07, high=-0.03), 0.01, wins=0, losses=5), "accuracy", 1, 1)
    assert verdict.kind == "worse"
    assert verdict.sentences == (
        "pool is worse than scratch: accuracy −0.050 (95 % interval −0.070 to −0.030; p = 0.010). It was ahead in 0 of 5 repeats."
    )


def test_a_difference_that_may_be_chance_is_no_evidence_and_what_is_left_open_is_said() -> None:
    verdict = judge(_compared(replace(SURE, value=0.01, low=-0.02, high=0.04, p=0.4), 0.8), "macro_f1", 2, 1)
    assert verdict.kind == "no evidence of a gain"
    assert "no evidence that pool is better than scratch, nor that it is worse" in verdict.sentences
    assert verdict.sentences.endswith("from a loss of 0.020 to a gain of 0.040.")


def test_an_interval_without_zero_is_still_no_evidence_when_the_correction_says_so() -> None:
    verdict = judge(_compared(replace(SURE, low=0.001, p=0.04), 0.12), "macro_f1", 3, 1)
    assert verdict.kind == "no evidence of a gain" and "after correction" in verdict.sentences


@pytest.mark.parametrize(
    ("overall", "kind", "words"),
    [
        (
            Estimate(0.2, 2, 40),
            "too few repeats to tell",
            "2 repeats had both, and 3 are needed. The observed difference in macro F1 was +0.200.",
        ),
        (Estimate(0.2, 1, 40), "too few repeats to tell", "1 repeat had both"),
        (Estimate(float("nan"), 0, 0), "too few repeats to tell", "0 repeats had both, and 3 are needed."),
        (Estimate(0.2, 5, 6), "too few groups to tell", "6 were tested"),
    ],
)
def test_too_little_to_tell_is_said_with_what_is_missing(overall: Estimate, kind: str, words: str) -> None:
    verdict = judge(_compared(overall, None), "macro_f1", 1, 1)
    assert verdict.kind == kind and words in verdict.sentences


def test_the_headline_names_what_is_better_or_worse_and_counts_the_rest() -> None:
    gain, unclear = judge(_compared(SURE, 0.001), "macro_f1", 2, 1), judge(_compared(replace(SURE, p=0.5), 0.5), "macro_f1", 2, 1)
    worse, few = replace(gain, arm="double", kind="worse"), replace(gain, kind="too few groups to tell")
    mixed = [gain, replace(gain, baseline="imagenet"), replace(unclear, arm="a"), replace(unclear, arm="b"), worse, few]
    assert headline(mixed) == (
        "pool is better than scratch and imagenet; double is worse than scratch; no evidence of a gain in 2 other comparisons; "
        "too few groups to tell in 1 other comparison."
    )
    assert headline([unclear, few]) == "No evidence of a gain in 1 comparison; too few groups to tell in 1 other comparison."
    assert headline([unclear]) == "No evidence of a gain in the one comparison."
    assert headline([few, few]) == "Too few groups to tell in any of 2 comparisons."
    assert headline([]) == "Nothing was compared."


def test_label_savings_say_no_more_than_is_known() -> None:
    saving = LabelsNeeded("pool", "scratch", 25, 25.0, 80.4, 41.0, None, 100.0)
    assert saving_sentence(saving) == (
        "With 25 labels per class, pool matches scratch with about 80, by interpolation (95 %: 41 to more than 100)."
    )
    assert "(95 %: 41 to 97)" in saving_sentence(replace(saving, high=97.0))
    assert "with at least 41" in saving_sentence(replace(saving, needed=None))
    assert saving_sentence(replace(saving, needed=None, low=100.0)).endswith("even with the most that were tried, 100.")


def test_differences_carry_a_true_minus_and_small_p_values_a_bound() -> None:
    assert (signed(-0.0123), signed(0.5), signed(-0.0001)) == ("−0.012", "+0.500", "0.000")
    assert (p_value(0.0003), p_value(0.04, "= "), p_value(None)) == ("< 0.001", "= 0.040", "–")
