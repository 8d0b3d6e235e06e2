"""Questions with one right answer: asked without dice, counted by the contract, compared on the same questions."""

import json

import pytest

from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.core.recipe import data_file, resolve
from lekhai_helpers.learn.model import Generation
from lekhai_helpers.measure.right_answers import (
    accuracy,
    answer_right,
    compare_right,
    in_words,
    record_right,
    right_briefs,
)

TUTOR = resolve("tutor", "cpu")


def writer_that(answer, asked=None):
    """Return a maker of writers that answer each prompt with `answer(prompt text)`, and note the settings."""

    def writer_of(settings):
        if asked is not None:
            asked.append(settings)

        def write(prompts, seed, grammars=None):
            return [Generation(answer(messages[-1]["content"]), 9, True, 0.1) for messages in prompts]

        return write

    return writer_of


def the_right_one(briefs):
    known = {brief.prompt: json.dumps(json.loads(brief.expected)["answer"]) for brief in briefs}
    return lambda prompt: known[prompt]


WRONG = json.dumps({"classification": "story", "engagement_score": 1, "educational_value": 1})


def test_the_tutors_eighteen_texts_to_judge_are_asked_and_nothing_else():
    briefs = right_briefs(TUTOR)
    assert len(briefs) == 18 and all("answer" in json.loads(brief.expected) for brief in briefs)


def test_twainbot_asks_the_requests_that_need_a_call_and_others_have_no_such_question():
    assert {json.loads(one.expected)["expect"] for one in right_briefs(resolve("twainbot", "cpu"))} == {"call"}
    for recipe in ("lekhai", "companion", "alignment"):
        settings = resolve(recipe, "cpu")
        assert right_briefs(settings) == [] and answer_right(writer_that(str), [], settings) == []


def test_none_of_the_questions_was_trained_on():
    learned = data_file(TUTOR.data.file).read_text(encoding="utf-8")
    inputs = [brief.prompt.split("\n\n", 1)[1] for brief in right_briefs(TUTOR)]
    assert not [text for text in inputs if json.dumps(text, ensure_ascii=False)[1:-1] in learned]


def test_the_limit_of_a_profile_is_kept():
    assert len(right_briefs(resolve("tutor", "smoke"))) == 2


def test_they_are_answered_without_dice():
    asked = []
    rows = answer_right(writer_that(lambda _: WRONG, asked), right_briefs(TUTOR), TUTOR)
    assert len(rows) == 18 and [one.decoding.temperature for one in asked] == [0.0]


def test_a_sound_form_with_a_wrong_label_is_not_right():
    """The contract is kept by any label; only the right one counts here."""
    briefs = right_briefs(TUTOR)
    wrong = answer_right(writer_that(lambda _: WRONG), briefs, TUTOR)
    assert all(row["ok"] for row in wrong)
    found = accuracy("before", wrong, briefs, TUTOR)
    stories = sum(json.loads(brief.expected)["answer"]["classification"] == "story" for brief in briefs)
    assert (found.right, found.of, found.what) == (stories, 18, "right_label") and stories < 9
    right = answer_right(writer_that(the_right_one(briefs)), briefs, TUTOR)
    assert accuracy("after", right, briefs, TUTOR).value == 1


def test_both_stages_are_compared_on_the_same_questions_with_an_interval():
    briefs = right_briefs(TUTOR)
    before = answer_right(writer_that(lambda _: "no JSON at all"), briefs, TUTOR)
    after = answer_right(writer_that(the_right_one(briefs)), briefs, TUTOR)
    found = compare_right(before, after, briefs, TUTOR)
    assert found["before"]["right"] == 0 and found["after"]["right"] == 18
    assert found["difference"]["difference"] == 1 and found["before"]["high"] < 0.2
    assert "18 of 18 right" in in_words(found) and "a clear difference" in in_words(found)
    same = compare_right(after, after, briefs, TUTOR)
    assert same["p"] == 1 and "no difference shown" in in_words(same)


def test_five_of_five_gained_is_not_shown_and_six_of_six_is():
    """McNemar's exact test: 2 / 2**5 is above 0.05, 2 / 2**6 below; the bootstrap is sure of both."""
    for number, shown in ((5, "no difference shown"), (6, "a clear difference")):
        briefs = right_briefs(TUTOR)[:number]
        before = answer_right(writer_that(lambda _: "no"), briefs, TUTOR)
        after = answer_right(writer_that(the_right_one(briefs)), briefs, TUTOR)
        found = compare_right(before, after, briefs, TUTOR)
        assert found["p"] == 2 / 2**number and found["difference"]["low"] == 1
        assert in_words(found).endswith(shown)


def test_without_questions_nothing_is_compared_and_it_is_said():
    assert compare_right([], [], [], TUTOR) == {}
    assert in_words({}) == "this recipe asks nothing that has one right answer"
    with pytest.raises(ValueError, match="right_briefs"):
        accuracy("before", [], [], TUTOR)


def test_the_ledger_holds_the_share_with_its_interval(tmp_path):
    briefs = right_briefs(TUTOR)
    rows = answer_right(writer_that(the_right_one(briefs)), briefs, TUTOR)
    with Ledger(tmp_path / "l.db", experiment="e", recipe="tutor", profile="cpu", settings="{}") as ledger:
        record_right(ledger, "sft", rows, briefs, TUTOR)
        record_right(ledger, "merged", [], briefs, TUTOR)
        (row,) = ledger.summary().to_dict("records")
    assert (row["stage"], row["metric"], row["value"], row["n"]) == ("sft", "right_label", 1.0, 18)
    assert 0.8 < row["low"] < 0.9 and row["high"] == 1


def test_a_wrong_place_in_a_call_is_not_right():
    settings = resolve("twainbot", "cpu")
    briefs = right_briefs(settings)
    call = '<tool_call>{"name": "get_weather", "arguments": {"location": "Nowhere", "date": "today"}}</tool_call>'
    rows = answer_right(writer_that(lambda _: call), briefs, settings)
    assert accuracy("sft", rows, briefs, settings).right == 0
