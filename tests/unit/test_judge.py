"""What all judges share: both orders of a pair, many texts in their order, counts of what was and was not scored."""

import threading
import time

import pytest

from lekhai_helpers.measure.judge import (
    Score,
    family_of,
    grade_all,
    heatmap_table,
    not_asked_of,
    pairwise,
    rubric_of,
    tally,
)
from lekhai_helpers.prepare.dataset import Brief

BRIEF = Brief("b1", "চা", "শান্ত", 15, "ধোঁয়াতলা", "চা", "ধোঁয়াতলা চায়ের ছবি")
CRITERIA = {"fluency": "1 broken, 10 natural"}


class Stub:
    """A judge that says what it is told to."""

    name, family, measures, identity = "stub", "", None, ""

    def __init__(self, choose=None, grade=None):
        self.choose, self._grade = choose, grade

    def compare(self, first, second, brief):
        return self.choose(first, second)

    def grade(self, text, brief, criteria):
        return self._grade(text, brief, criteria)


@pytest.mark.parametrize(
    ("choose", "winner", "flipped"),
    [
        (lambda one, two: "first" if one == "good" else "second", "better", False),
        (lambda one, two: "first" if one == "bad" else "second", "worse", False),
        (lambda one, two: "first", "tie", True),
        (lambda one, two: "second", "tie", True),
        (lambda one, two: "tie", "tie", False),
        (lambda one, two: "first" if one == "good" else "tie", "tie", True),
    ],
)
def test_a_pair_is_won_only_where_both_orders_agree(choose, winner, flipped):
    """Asked in one order only, a judge that always takes the first is right every time."""
    verdict = pairwise(Stub(choose), "good", "bad", BRIEF)
    assert (verdict.status, verdict.winner, verdict.flipped) == ("scored", winner, flipped)


@pytest.mark.parametrize("status", ["failed", "unparsable"])
def test_a_pair_answered_in_one_order_only_is_no_verdict(status):
    verdict = pairwise(Stub(lambda one, two: "first" if one == "good" else status), "good", "bad", BRIEF)
    assert (verdict.status, verdict.winner) == (status, None)
    assert verdict.said == ("first", status)


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("gpt-4o", "openai"),
        ("gemini-2.5-flash", "google"),
        ("embedded", "google"),
        ("md-nishat-008/TigerLLM-9B-it", "google"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "qwen"),
        ("my-own", ""),
    ],
)
def test_a_name_tells_the_family(model, family):
    assert family_of(model) == family


def test_verdicts_keep_the_order_of_the_texts_where_calls_run_at_once():
    seen = set()

    def grade(text, brief, criteria):
        seen.add(threading.current_thread().name)
        time.sleep(0.02 if text == "t1" else 0.001)  # long enough that others are asked meanwhile
        return [Score("fluency", "scored", float(text[1:]), brief.id)]

    rows = [{"stage": "sft", "brief_id": "b1", "seed": n, "text": f"t{n}"} for n in range(1, 9)]
    verdicts = grade_all(Stub(grade=grade), rows, CRITERIA, briefs=[BRIEF], concurrency=4)
    assert [row["score"] for row in verdicts] == [row["seed"] for row in verdicts] == list(range(1, 9))
    assert {row["reason"] for row in verdicts} == {"b1"} and len(seen) > 1


def test_a_text_without_its_brief_is_refused():
    """A judge that counts needs brand and length; without them every script would fail silently."""
    rows = [{"stage": "sft", "brief_id": "elsewhere", "seed": 1, "text": "t"}]
    with pytest.raises(KeyError, match="elsewhere"):
        grade_all(Stub(), rows, CRITERIA, briefs=[BRIEF])


def test_a_judge_is_not_asked_for_what_it_has_no_measure_of_and_that_is_told_once():
    """Every text had a "failed" verdict on its idea, and the tally read as if an endpoint had been down."""
    judge = Stub(grade=lambda text, brief, criteria: [Score(name, "scored", 5.0, "") for name in criteria])
    judge.measures = ("fluency", "tone")
    criteria, lines = CRITERIA | {"idea": "1 none, 10 new"}, []
    rows = [{"stage": "sft", "brief_id": "b1", "seed": n, "text": "t"} for n in range(3)]
    verdicts = grade_all(judge, rows, criteria, lines.append, briefs=[BRIEF])
    assert [row["criterion"] for row in verdicts] == ["fluency"] * 3
    assert not_asked_of(judge, criteria) == ["idea"]
    assert [line for line in lines if "idea" in line] == ["stub has no measure of idea, so it is not asked"]
    assert tally(verdicts) == "3 of 3 scored"


def test_the_rubric_changes_with_what_is_asked_and_with_the_judge():
    judge, other = Stub(), Stub()
    assert rubric_of(judge, CRITERIA) == rubric_of(other, dict(CRITERIA))
    other.identity = "other weights"
    assert rubric_of(other, CRITERIA) != rubric_of(judge, CRITERIA)
    assert rubric_of(judge, {"fluency": "other anchors"}) != rubric_of(judge, CRITERIA)
    assert rubric_of(judge, CRITERIA | {"tone": "x"}) != rubric_of(judge, CRITERIA)
    judge.measures = ("fluency",)
    assert rubric_of(judge, CRITERIA | {"tone": "x"}) == rubric_of(judge, CRITERIA)


def test_all_three_states_are_counted():
    states = ["scored"] * 117 + ["unparsable"] * 2 + ["failed"]
    assert tally({"status": state} for state in states) == "117 of 120 scored, 2 unparsable, 1 failed"


def test_the_heatmap_shows_means_counts_and_honest_gaps():
    import pandas as pd

    verdicts = pd.DataFrame(
        [
            ("b1", "fluency", "scored", 6.0),
            ("b2", "fluency", "scored", 8.0),
            ("b1", "tone", "unparsable", None),
            ("b3", "fluency", "failed", None),
            ("b3", "tone", "scored", 5.0),
        ],
        columns=["brief_id", "criterion", "status", "score"],
    )
    means, counts = heatmap_table(verdicts, {"b1": "চা", "b2": "চা", "b3": "ব্যাংক"})
    assert means.loc["চা", "fluency"] == 7
    assert counts.loc["চা"].to_dict() == {"fluency": 2, "tone": 0}
    assert pd.isna(means.loc["চা", "tone"]) and pd.isna(means.loc["ব্যাংক", "fluency"])
    assert means.index.equals(counts.index) and means.columns.equals(counts.columns)


def test_a_heatmap_of_nothing_but_failures_is_empty_and_does_not_raise():
    import pandas as pd

    verdicts = pd.DataFrame([("b1", "tone", "failed", None)], columns=["brief_id", "criterion", "status", "score"])
    means, counts = heatmap_table(verdicts, {"b1": "চা"})
    assert pd.isna(means.loc["চা", "tone"]) and counts.loc["চা", "tone"] == 0
    with pytest.raises(ValueError, match="industries"):
        heatmap_table(verdicts)
