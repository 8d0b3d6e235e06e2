"""A raw figure becomes 1 to 10 by its place among the gold scripts; what stands outside them stands below 4."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lekhai_helpers.measure.gold_scale import gold_scale

TEN = [float(n) for n in range(1, 11)]
NUMBERS = st.floats(-100, 100, allow_nan=False).map(lambda value: round(value, 3))


def test_the_middle_of_the_gold_is_seven_and_its_ends_are_four_and_ten():
    scale = gold_scale(TEN)
    assert scale.score(5.5) == 7.0
    assert 4.0 <= scale.score(1.0) <= 4.5 and 9.5 <= scale.score(10.0) <= 10.0
    assert scale.score(11.0) == 10.0


def test_below_all_gold_the_distance_decides_from_three_down_to_one():
    scale = gold_scale(TEN)  # the gold's own range is 9
    assert scale.score(0.999) == pytest.approx(3.0, abs=0.01)
    assert scale.score(1 - 4.5) == 2.0
    assert scale.score(-1000.0) == 1.0


def test_with_both_ends_too_much_is_as_bad_as_too_little():
    scale = gold_scale(TEN, both_ends=True)
    assert scale.score(5.5) == 10.0
    assert scale.score(1.0) == scale.score(10.0) < 5
    assert scale.score(10 + 4.5) == scale.score(1 - 4.5) == 2.0


@given(st.lists(NUMBERS, min_size=5, max_size=30), NUMBERS, NUMBERS)
def test_a_better_figure_never_scores_worse(gold, one, other):
    scale = gold_scale(gold, unit=1.0)
    low, high = sorted([one, other])
    assert 1.0 <= scale.score(low) <= scale.score(high) <= 10.0


@given(st.lists(NUMBERS, min_size=5, max_size=30), NUMBERS)
def test_inside_is_at_least_four_and_outside_at_most_three(gold, value):
    scale = gold_scale(gold, unit=1.0, both_ends=True)
    inside = min(gold) <= value <= max(gold)
    assert (scale.score(value) >= 4.0) == inside and (scale.score(value) <= 3.0) != inside


def test_where_all_gold_is_equal_the_same_figure_is_the_middle():
    scale = gold_scale([1.0] * 6, unit=1.0)
    assert scale.score(1.0) == 7.0
    assert scale.score(0.5) == 2.0
    assert scale.words(1.0, "less", "more") == "as the gold scripts are"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "less likely than every gold script"),
        (1.5, "less likely than 90% of the gold scripts"),
        (9.5, "more likely than 90% of the gold scripts"),
        (11.0, "more likely than every gold script"),
    ],
)
def test_the_place_is_said_in_words(value, said):
    assert gold_scale(TEN).words(value, "less likely", "more likely") == said


@pytest.mark.parametrize("values", [[], [1.0] * 4, [1.0, 2.0, 3.0, 4.0, math.nan]])
def test_too_little_gold_is_no_scale(values):
    with pytest.raises(ValueError, match="no scale"):
        gold_scale(values, unit=1.0)


def test_equal_gold_without_a_unit_is_refused():
    with pytest.raises(ValueError, match="give `unit`"):
        gold_scale([2.0] * 9)


def test_a_missing_figure_gets_no_score():
    with pytest.raises(ValueError, match="leave the criterion out"):
        gold_scale(TEN).score(math.nan)
