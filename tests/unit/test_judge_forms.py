"""The expectation over score tokens, for tokenizers that cut numbers and Bengali letters in different ways."""

import math

import pytest

from lekhai_helpers.measure.judge_forms import Token, Wording, expected_scores, grading, read_scores

CRITERIA = {"tone": "1 wrong, 10 right"}
HEAD, TAIL = '{"tone": {"reason": "x", "score": ', "}}"


def token(text, **chances):
    """A token and what could have stood there; the keyword p7=0.5 is the chance of "7"."""
    found = {name[1:]: math.log(chance) for name, chance in chances.items()}
    return Token(text.encode(), found or {text: 0.0})


def expected(*tokens, head=HEAD):
    return expected_scores([token(head), *tokens, token(TAIL)], CRITERIA).get("tone")


def test_the_expectation_scales_the_chances_to_one():
    assert expected(token("8", p8=0.5, p6=0.25, pfine=0.25)) == pytest.approx((8 * 0.5 + 6 * 0.25) / 0.75)


def test_ten_may_be_one_token():
    assert expected(token("9", p9=0.5, p10=0.5)) == pytest.approx(9.5)
    assert expected(token("1", p1=0.5, p10=0.5)) == pytest.approx(5.5)


def test_ten_may_be_a_one_and_a_zero():
    """Gemma and Qwen write digit by digit: a 10 was once read as a 1."""
    assert expected(token("1", p1=0.8, p9=0.2), token("0", p0=0.75)) == pytest.approx(10 * 0.6 + 0.2 + 9 * 0.2)
    assert expected(token("9", p9=0.5, p8=0.25, p1=0.25)) == pytest.approx((9 * 0.5 + 8 * 0.25) / 0.75)


@pytest.mark.parametrize("text", ["8}", "eight"])
def test_a_score_that_is_no_token_by_itself_has_no_expectation(text):
    assert expected(token(text)) is None


def test_half_a_bengali_letter_is_a_token_too():
    """Two tokens of one letter are two replacement signs as text, and every place after them is then wrong."""
    raw = '{"tone": {"reason": "ভালো", "score": '.encode()
    halves = [Token(raw[:20], {}), Token(raw[20:], {}), token("4", p4=1.0), token(TAIL)]
    assert expected_scores(halves, CRITERIA) == {"tone": pytest.approx(4)}


def test_a_reason_that_speaks_of_a_score_is_not_the_score():
    head = r'{"tone": {"reason": "he wrote \"score\": 2", "score": '
    assert expected(token("7", p7=1.0), head=head) == pytest.approx(7)


def test_no_tokens_no_expectation():
    assert expected_scores([], CRITERIA) == {}


def test_the_score_says_how_it_was_read():
    reply = '{"tone": {"reason": "x", "score": 8}}'
    assert [(s.score, s.how) for s in read_scores(reply, CRITERIA, {"tone": 7.25})] == [(7.25, "expectation")]
    assert [(s.score, s.how) for s in read_scores(reply, CRITERIA, {})] == [(8.0, "written")]


def test_own_words_and_examples_take_the_place_of_ours():
    examples = ({"role": "user", "content": "q"}, {"role": "assistant", "content": "a"})
    form = grading("script", "brief", CRITERIA, Wording(grading="Grade {rubric} as {json}", grading_examples=examples))
    assert [message["role"] for message in form.messages] == ["system", "user", "assistant", "user"]
    assert form.messages[0]["content"] == "Grade - tone: 1 wrong, 10 right as {json}"
    assert '"script": "script"' in form.messages[-1]["content"]
