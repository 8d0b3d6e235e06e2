"""Agreement, checked against published worked examples and scikit-learn."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lekhai_helpers.measure.agreement import agreement_table, krippendorff_alpha, quadratic_kappa

# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: four observers, twelve units.
_ = None
PUBLISHED = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
    [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
]


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_the_published_one(level, alpha):
    assert krippendorff_alpha(PUBLISHED, level) == pytest.approx(alpha, abs=5e-4)


def test_alpha_of_two_observers_is_the_published_one():
    """Krippendorff 2011, section B: two observers, twelve units, five names."""
    ben, gerry = ([float(ord(letter)) for letter in row] for row in ("aabbdcccedda", "babbbccceddd"))
    assert krippendorff_alpha([ben, gerry], "nominal") == pytest.approx(0.692, abs=5e-4)


marks = st.lists(st.tuples(st.integers(1, 10), st.integers(1, 10)), min_size=2, max_size=30)


@given(marks)
def test_quadratic_kappa_is_scikit_learns(pairs):
    from sklearn.metrics import cohen_kappa_score

    first, second = zip(*pairs, strict=True)
    if len({*first, *second}) == 1:
        assert quadratic_kappa(first, second) is None
        return
    theirs = cohen_kappa_score(first, second, labels=list(range(1, 11)), weights="quadratic")
    assert quadratic_kappa(first, second) == pytest.approx(theirs)


@given(marks)
def test_full_agreement_is_one(pairs):
    first = [one for one, _ in pairs]
    alone = len(set(first)) == 1
    assert quadratic_kappa(first, first) == (None if alone else pytest.approx(1))
    for level in ("nominal", "ordinal", "interval"):
        assert krippendorff_alpha([first, first], level) == (None if alone else pytest.approx(1))


def test_what_cannot_disagree_has_no_alpha():
    assert krippendorff_alpha([[1, 2], [None, None]]) is None  # no text with two marks
    assert krippendorff_alpha([[3, 3], [3, 3]]) is None
    with pytest.raises(ValueError):
        quadratic_kappa([1, 2], [1])


def frame(rows, **more):
    columns = ["stage", "brief_id", "seed", "criterion", *more.pop("columns")]
    return pd.DataFrame(rows, columns=columns).assign(**more)


def test_a_judge_is_set_beside_the_people():
    scores = {"b1": 2.0, "b2": 5.4, "b3": 9.0, "b4": 7.0}
    verdicts = frame(
        [("sft", brief, 1, "tone", "scored", score) for brief, score in scores.items()]
        + [("sft", "b5", 1, "tone", "failed", None), ("sft", "b1", 1, "idea", "failed", None)],
        columns=["status", "score"],
        judge="gpt",
    )
    labels = frame(
        [("sft", brief, 1, "tone", "rima", round(score)) for brief, score in scores.items() if brief != "b4"]
        + [("sft", "b1", 1, "tone", "karim", 3), ("sft", "b5", 1, "tone", "karim", 3)],
        columns=["rater", "score"],
    )
    table = agreement_table(verdicts, labels)
    assert table[["judge", "criterion", "texts", "raters"]].to_numpy().tolist() == [["gpt", "tone", 3, 2]]
    assert table.loc[0, "kappa"] > 0.9 and 0.8 < table.loc[0, "alpha"] < 1


def test_without_marks_the_table_is_empty():
    verdicts = frame([("sft", "b1", 1, "tone", "scored", 5.0)], columns=["status", "score"], judge="gpt")
    labels = frame([], columns=["rater", "score"])
    assert agreement_table(verdicts, labels).empty
