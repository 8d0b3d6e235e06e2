"""Two stages text by text: what decides, what is chance, and when the aligned adapter is dropped."""

from math import comb

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lekhai_helpers.measure.pairwise import by_counting, compare, sign_test, verdict
from lekhai_helpers.prepare.contracts.ad_script import AdScript
from lekhai_helpers.prepare.dataset import Brief

BRAND = "কুঁড়িমন"
BRIEFS = [Brief(f"b{n}", "চা", "", 15, BRAND, "চা", "একটি চিত্রনাট্য লিখুন") for n in range(4)]


def text(rows=5, brand=BRAND, extra=""):
    lines = [(f"দৃশ্য {letter} {extra}", "ভিও: চলো।") for letter in "কখগঘঙচছজঝ"[: rows - 1]]
    return AdScript([*lines, ("প্যাকেট", f"ভিও: {brand}।")]).to_markdown()


GOOD = text()
TOO_MANY_ROWS = text(rows=9)
NO_TABLE = f"{BRAND} ভালো চা"
NO_BRAND = text(brand="অন্য চা")
TWICE = AdScript([("দৃশ্য", "ভিও: চলো।")] * 4 + [("প্যাকেট", f"ভিও: {BRAND}।")]).to_markdown()
LATIN = text(extra="somewhere over there")


def row(written, brief="b0", seed=1):
    return {"brief_id": brief, "seed": seed, "text": written}


@pytest.mark.parametrize(
    ("worse", "why"),
    [
        (TOO_MANY_ROWS, "valid for its length"),
        (NO_TABLE, "valid for its length"),
        (NO_BRAND, "brand named"),
        (TWICE, "no repeated rows"),
        (LATIN, "Bengali share"),
    ],
)
def test_the_better_text_wins_in_both_orders_by_the_fact_that_differs(worse, why):
    assert by_counting(row(GOOD), row(worse), BRIEFS[0]) == ("first", why)
    assert by_counting(row(worse), row(GOOD), BRIEFS[0]) == ("second", why)


def test_where_both_miss_the_length_a_table_still_beats_none():
    assert by_counting(row(TOO_MANY_ROWS), row(NO_TABLE), BRIEFS[0]) == ("first", "valid table")


def test_texts_equal_in_all_that_counts_are_a_tie():
    assert by_counting(row(GOOD), row(text(extra="ভোর")), BRIEFS[0]) == ("tie", "")


def stage(*texts):
    return [row(written, f"b{n % 4}", seed=1 + n // 4) for n, written in enumerate(texts)]


def test_wins_losses_and_ties_are_counted_over_briefs_and_seeds():
    first = stage(GOOD, GOOD, NO_BRAND, GOOD, GOOD, GOOD, GOOD, GOOD)
    second = stage(NO_TABLE, NO_BRAND, GOOD, GOOD, GOOD, TWICE, GOOD, GOOD)
    found = compare(first, pd.DataFrame(second[::-1]), BRIEFS)
    assert [found.won(side) for side in ("first", "second", "tie")] == [3, 1, 4]
    assert (found.decided, found.share) == (4, 0.25)
    assert found.favours == "sft" and found.p == sign_test(3, 1)
    assert found.p_briefs == sign_test(2, 1)  # b1 decided twice for the first, and has one vote
    assert found.decisions[1] == {"brief_id": "b1", "seed": 1, "better": "first", "why": "brand named"}
    assert "of 8 texts sft wins 3, dpo wins 1, 4 are ties: sft is ahead" in found.sentence


def test_as_many_wins_as_losses_favour_nobody():
    found = compare(stage(GOOD, NO_TABLE), stage(NO_TABLE, GOOD), BRIEFS)
    assert compare(stage(GOOD), stage(GOOD), BRIEFS).share is None
    assert found.favours is None and found.p == 1.0 and "neither is ahead" in found.sentence


def test_a_judge_may_take_the_place_of_counting():
    longer = lambda one, other, brief: ("second" if len(other["text"]) > len(one["text"]) else "tie", "length")  # noqa: E731
    assert compare(stage(GOOD), stage(TOO_MANY_ROWS), BRIEFS, longer, names=("a", "b")).favours == "b"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (stage(GOOD), stage(GOOD, GOOD)),
        ([], []),
        ([row(GOOD, "b0", 1)], [row(GOOD, "b0", 2)]),
        ([row(GOOD, "unknown")], [row(GOOD, "unknown")]),
    ],
)
def test_stages_that_did_not_answer_the_same_briefs_cannot_be_compared(first, second):
    with pytest.raises(ValueError, match="must answer the same briefs"):
        compare(first, second, BRIEFS)


@given(st.integers(0, 40), st.integers(0, 40))
def test_the_sign_test_is_the_exact_binomial(wins, losses):
    from scipy.stats import binomtest

    expected = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert sign_test(wins, losses) == pytest.approx(expected)


def test_six_of_six_is_one_in_thirty_two():
    assert sign_test(6, 0) == 2 * comb(6, 0) / 2**6


# --- the verdict

SFT = {"valid_tables": 0.8, "stopped": 0.95, "mean_tokens": 200.0}
EVEN = compare(stage(GOOD), stage(GOOD), BRIEFS)
DPO_AHEAD = compare(stage(NO_TABLE), stage(GOOD), BRIEFS)
SFT_AHEAD = compare(stage(GOOD), stage(NO_TABLE), BRIEFS)


@pytest.mark.parametrize("comparison", [EVEN, DPO_AHEAD])
def test_an_adapter_that_is_nowhere_worse_is_kept_and_the_reasons_say_why(comparison):
    keep, reasons = verdict(SFT, SFT | {"valid_tables": 0.9, "mean_tokens": 220.0}, comparison)
    assert keep
    assert reasons == ["valid tables 80% before and 90% after, length drift +10%", comparison.sentence]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"valid_tables": 0.75}, "valid tables fell from 80% to 75%"),
        ({"stopped": 0.85}, "fewer texts end by themselves: 95% to 85%"),
        ({"mean_tokens": 240.0}, "the length drifted by +20%"),
        ({"mean_tokens": 150.0}, "the length drifted by -25%"),
    ],
)
def test_an_adapter_that_is_worse_in_one_thing_is_dropped_for_it(change, said):
    assert verdict(SFT, SFT | change, EVEN) == (False, [said])


def test_empty_texts_before_are_no_reason_and_no_crash():
    keep, reasons = verdict(SFT | {"mean_tokens": 0.0}, SFT, EVEN)
    assert keep and "no text before to hold the length against" in reasons[0]


def test_an_adapter_the_comparison_does_not_favour_is_dropped_though_all_else_is_equal():
    keep, reasons = verdict(SFT, dict(SFT), SFT_AHEAD)
    assert not keep and reasons == [f"the pairwise comparison favours sft: {SFT_AHEAD.sentence}"]
