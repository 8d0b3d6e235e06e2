"""Stages on the same briefs: what differs, what does not, and what nobody can tell."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lekhai_helpers.measure.comparisons import (
    differences,
    differences_table,
    in_words,
    means,
    means_table,
    needs_data,
)
from lekhai_helpers.measure.judge import heatmap_table


def table(stages, criterion="tone"):
    """Make verdicts from stage -> list of (brief, score); a score of None is a verdict that failed."""
    rows = [
        {
            "stage": stage,
            "brief_id": brief,
            "seed": seed,
            "criterion": criterion,
            "status": "failed" if score is None else "scored",
            "score": score,
        }
        for stage, scores in stages.items()
        for seed, (brief, score) in enumerate(scores)
    ]
    return pd.DataFrame(rows)


def briefs(scores):
    return [(f"b{n}", score) for n, score in enumerate(scores)]


def test_a_clear_gain_is_shown_with_its_interval_and_n():
    (found,) = differences(
        table({"base": briefs([3, 4, 3, 5, 4, 3, 4, 5]), "sft": briefs([7, 8, 6, 8, 8, 7, 7, 9])}), "base"
    )
    assert found.shown == "higher" and found.low > 0 and found.briefs == 8 and found.texts == 16
    assert "sft is higher than base" in found.sentence and "n = 8 briefs" in found.sentence


def test_noise_is_no_difference_and_said_so():
    dice = np.random.default_rng(1)
    stages = {name: briefs(dice.normal(5, 2, 20)) for name in ("base", "sft")}
    (found,) = differences(table(stages), "base")
    assert found.shown == "no difference shown" and "no difference shown between base and sft" in found.sentence


def test_pairing_finds_what_the_two_means_alone_would_hide():
    """Easy and hard briefs spread the means so far apart that the intervals overlap; brief by brief all rose."""
    hard = np.linspace(1, 9, 12)
    both = table({"base": briefs(hard), "sft": briefs(hard + 0.5 + 0.1 * (np.arange(12) % 2))})
    base, sft = means(both)
    assert sft.low < base.high
    assert differences(both, "base")[0].shown == "higher"


def test_only_shared_briefs_are_compared():
    found = differences(
        table({"base": briefs([1] * 8), "sft": [*briefs([2] * 6), ("other", 10), ("b7", None)]}), "base"
    )[0]
    assert found.briefs == 6 and found.difference == 1.0 and "every brief alike" in found.sentence


def test_stages_without_a_common_brief_are_not_compared():
    found = differences(table({"base": briefs([1] * 8), "sft": [("x", 9.0)]}), "base")[0]
    assert found.difference is None and "nothing is compared" in found.sentence


def test_five_briefs_prove_nothing_even_if_all_agree():
    found = differences(table({"base": briefs([1] * 5), "sft": briefs([9] * 5)}), "base")[0]
    assert found.shown == "too few briefs to tell" and found.low is None and "n = 5 briefs" in found.sentence
    assert means(table({"base": briefs([1, 2, 3])}))[0].low is None


def test_many_texts_of_one_brief_are_one_witness():
    """Thirty texts of two briefs once gave an interval as narrow as thirty briefs would."""
    scores = [("b0", 3.0)] * 15 + [("b1", 9.0)] * 15
    (found,) = means(table({"base": scores}))
    assert (found.briefs, found.texts, found.low) == (2, 30, None) and found.mean == 6.0


def test_a_failed_verdict_is_counted_and_never_a_zero():
    (found,) = means(table({"base": [*briefs([8] * 6 + [7]), ("b8", None), ("b9", None)]}))
    assert (found.texts, found.asked) == (7, 9) and found.mean > 7.8
    (nothing,) = means(table({"base": briefs([None] * 8)}))
    assert nothing.mean is None and nothing.note == "nothing was scored" and nothing.asked == 8


def test_a_share_that_is_one_everywhere_keeps_an_interval():
    """Drawing from equal values gave 100% to 100%, as if twelve briefs were all there are."""
    (found,) = means(table({"sft": briefs([1.0] * 12)}), share=True)
    assert found.mean == 1.0 and found.low < 0.8 and found.high == 1.0
    (score,) = means(table({"sft": briefs([7.0] * 12)}))
    assert score.low is None and "same score" in score.note


def test_two_judges_are_not_mixed():
    both = pd.concat(table({"base": briefs([1] * 8)}).assign(judge=name) for name in ("a", "b"))
    for ask in (means, lambda verdicts: differences(verdicts, "base")):
        with pytest.raises(ValueError, match="choose one judge"):
            ask(both)


def test_a_stage_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="no stage dpo"):
        differences(table({"base": briefs([1] * 8)}), "base", ["dpo"])


def test_all_stages_of_the_chain_are_compared_with_the_base():
    names = ("base", "merged", "sft", "dpo", "quantised")
    stages = {name: briefs((np.arange(8) + (place > 0)) % 3 + 3 * place) for place, name in enumerate(names)}
    both = pd.concat([table(stages), table(stages, "fluency")])
    found = differences_table(both, "base")
    assert list(found["second"]) == ["merged", "merged", "sft", "sft", "dpo", "dpo", "quantised", "quantised"]
    assert set(found["shown"]) == {"higher"} and found["sentence"].str.contains("n = 8 briefs").all()
    assert len(means_table(both)) == 10 and {"briefs", "texts", "asked"} <= set(means_table(both))


def test_many_comparisons_are_summed_up_with_chance_in_mind():
    dice = np.random.default_rng(3)
    same = table({name: briefs(dice.normal(5, 1, 12)) for name in ("base", "sft")})
    assert in_words(differences(same, "base")) == "no difference shown in any of 1 comparisons with an interval"
    rising = table({"base": briefs([1] * 8), "sft": briefs([2, 3] * 4), "dpo": briefs([3, 2] * 4)})
    assert in_words(differences(rising, "base")) == (
        "2 of 2 comparisons show a difference; if no stage differed, one in twenty, here 0.1, would be expected to by "
        "chance alone, and somewhat more where briefs are few"
    )
    many = table({"base": briefs([1] * 60), "sft": briefs([2, 3] * 30)})
    assert in_words(differences(many, "base")).endswith("by chance alone")
    assert "too few briefs" in in_words(differences(table({"base": briefs([1]), "sft": briefs([2])}), "base"))


@pytest.mark.parametrize("gap", [0.0, 1.0, 0.1])
def test_briefs_that_all_say_the_same_give_no_interval_of_no_width(gap):
    """Drawing from equal gaps gave +1.00 to +1.00, as if eight briefs left no doubt at all; 0.1 rounds differently."""
    (found,) = differences(table({"base": briefs(range(8)), "sft": briefs(np.arange(8) + gap)}), "base")
    assert (found.low, found.high, found.shown) == (None, None, "every brief alike: no interval")
    assert found.sentence == f"tone: every brief alike: no interval (sft {gap:+.2f}, n = 8 briefs)"
    assert in_words([found]) == (
        "no difference shown in any of 0 comparisons with an interval; in 1 more every brief says the same, so there "
        "is no interval"
    )


@pytest.mark.parametrize("n", [6, 12, 20])
def test_few_briefs_give_an_interval_wide_enough(n):
    """Plain percentiles held the true mean 86 times of 100 with six briefs."""
    dice = np.random.default_rng(n)
    hits = 0
    for _ in range(200):
        (found,) = means(table({"sft": briefs(dice.normal(5, 2, n))}), rounds=1000)
        hits += found.low <= 5 <= found.high
    assert hits / 200 >= 0.91


def test_intervals_are_the_same_every_time():
    scores = table({"base": briefs(range(10)), "sft": briefs([3, 1, 4, 1, 5, 9, 2, 6, 5, 3])})
    assert differences(scores, "base", seed=4) == differences(scores, "base", seed=4)
    assert means(scores, seed=4) == means(scores, seed=4)


@given(st.lists(st.floats(1, 10), min_size=6, max_size=15))
def test_the_mean_lies_within_its_interval_and_the_interval_within_the_scores(scores):
    (found,) = means(table({"base": briefs(scores)}), rounds=200)
    if found.low is not None:
        assert min(scores) - 1e-9 <= found.low <= found.high <= max(scores) + 1e-9


# --- where more data is needed


def heat(cells):
    rows = [
        {
            "industry": industry,
            "criterion": criterion,
            "status": "failed" if score is None else "scored",
            "score": score,
        }
        for (industry, criterion), scores in cells.items()
        for score in scores
    ]
    return heatmap_table(pd.DataFrame(rows))


def test_thin_and_weak_industries_are_listed_with_the_reason():
    cells = {("চা", "tone"): [8, 8, 8], ("রং", "tone"): [2, 3, 1], ("ব্যাংক", "tone"): [9]}
    found = needs_data(*heat(cells), low=4)
    assert found == [
        {"industry": "ব্যাংক", "reason": "1 text scored, fewer than 3"},
        {"industry": "রং", "reason": "mean below 4: tone 2.00 (n = 3)"},
    ]


def test_a_criterion_nobody_could_judge_accuses_no_industry():
    cells = {("চা", "tone"): [8, 8, 8], ("চা", "idea"): [None] * 3}
    assert needs_data(*heat(cells), low=4) == []


def test_an_industry_without_any_brief_is_listed_first():
    cells = {("রং", "tone"): [2, 3, 1]}
    found = needs_data(*heat(cells), low=4, industries=["রং", "জুতা"])
    assert [entry["industry"] for entry in found] == ["জুতা", "রং"]
    assert found[0]["reason"] == "no texts scored, fewer than 3"


def test_a_single_low_score_in_a_thin_cell_is_no_verdict_on_the_industry():
    cells = {("চা", "tone"): [8, 8, 8], ("চা", "fluency"): [1, None, None]}
    assert needs_data(*heat(cells), low=4) == []
