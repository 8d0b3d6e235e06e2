"""The loop around a model that calls tools: call, reply, answer; and every call that cannot be made."""

import json

import pytest

from lekhai_helpers.prepare.tools import Call, parse_replies
from lekhai_helpers.prepare.weather import TOOLS, MockWeather, answer_call
from lekhai_helpers.ship.tool_loop import MOST_AT_ONCE, MOST_CALLS, converse, replies_to

CALL = Call("get_weather", {"location": "Dhaka", "date": "today"}).to_text()
TALK = [{"role": "system", "content": "You have tools."}, {"role": "user", "content": "How is it in Dhaka?"}]


def model(*texts):
    """Return a model that says these texts one after the other, and the conversations it was shown."""
    left, shown = list(texts), []

    def ask(messages):
        shown.append([dict(message) for message in messages])
        return left.pop(0)

    return ask, shown


def run(call):
    return answer_call(call.name, call.arguments, MockWeather())


def test_a_call_is_made_and_its_reply_is_shown_to_the_model():
    ask, shown = model(CALL, "It is warm.")
    turns = converse(ask, TALK, TOOLS, run)
    assert [turn["role"] for turn in turns] == ["assistant", "user", "assistant"]
    (reply,) = parse_replies(turns[1]["content"])
    assert reply["location"] == "Dhaka" and "temperature_c" in reply
    assert shown[1] == [*TALK, *turns[:2]], "the model must see its own call and the reply"
    assert TALK[-1]["content"] == "How is it in Dhaka?", "the conversation given is left alone"


def test_an_answer_without_a_call_ends_the_loop_at_once():
    ask, shown = model("Never trust a barometer.")
    assert converse(ask, TALK, TOOLS, run) == [{"role": "assistant", "content": "Never trust a barometer."}]
    assert len(shown) == 1


def test_two_calls_get_two_replies_in_one_message():
    ask, _ = model(CALL + "\n" + CALL.replace("Dhaka", "Sylhet"), "Both are wet.")
    replies = parse_replies(converse(ask, TALK, TOOLS, run)[1]["content"])
    assert [reply["location"] for reply in replies] == ["Dhaka", "Sylhet"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CALL.replace("get_weather", "open_the_door"), "there is no tool named 'open_the_door'; known: get_weather"),
        (CALL.replace("location", "place"), "get_weather: "),
        (CALL.replace("today", "someday"), "get_weather: "),
        (CALL.removesuffix("</tool_call>"), "never closed"),
        ("<tool_call>{get_weather}</tool_call>", "no JSON"),
        (CALL.replace("Dhaka", "Atlantis"), "location not found: Atlantis"),
    ],
)
def test_a_call_that_cannot_be_made_comes_back_as_a_sentence(text, words):
    ask, shown = model(text, "I was mistaken.")
    turns = converse(ask, TALK, TOOLS, run)
    (reply,) = parse_replies(turns[1]["content"])
    assert words in reply["error"] and turns[-1]["content"] == "I was mistaken."


def test_a_model_that_only_ever_calls_is_stopped():
    """A small model repeated its call for ever; the program around it never came back."""
    ask, shown = model(*[CALL] * 20)
    turns = converse(ask, TALK, TOOLS, run)
    assert len(shown) == MOST_CALLS + 1 and turns[-1] == {"role": "assistant", "content": CALL}


def test_of_many_calls_in_one_text_a_few_are_made_and_the_others_are_told():
    """One text held forty calls, and three rounds of it made 120."""
    calls = []
    replies = parse_replies(replies_to("\n".join([CALL] * 40), TOOLS, lambda call: calls.append(call) or {}))
    assert len(calls) == MOST_AT_ONCE and len(replies) == 40
    assert all("was not made: at most 4" in reply["error"] for reply in replies[MOST_AT_ONCE:])


@pytest.mark.parametrize(
    "error", [TimeoutError("too slow"), ConnectionError("no network"), ValueError("no such place")]
)
def test_a_tool_that_fails_is_answered_for_in_words(error):
    def fails(call):
        raise error

    ask, _ = model(CALL, "I could not find out.")
    turns = converse(ask, TALK, TOOLS, fails)
    (reply,) = parse_replies(turns[1]["content"])
    assert reply == {"error": f"get_weather failed ({type(error).__name__}): {error}"}


def test_a_place_that_is_no_text_is_answered_for():
    """Half of a pair of code units is JSON, and no text that can be sent or hashed."""
    assert "UnicodeEncodeError" in replies_to(CALL.replace("Dhaka", "\\ud800"), TOOLS, run)


def test_without_tools_a_call_is_only_text():
    ask, shown = model(CALL)
    assert converse(ask, TALK) == [{"role": "assistant", "content": CALL}] and len(shown) == 1


def test_the_weather_is_asked_where_nobody_else_is_named(monkeypatch):
    monkeypatch.delenv("OPENWEATHER_API_KEY", raising=False)
    text = replies_to(CALL, TOOLS)
    assert json.loads(text.removeprefix("<tool_response>").removesuffix("</tool_response>"))["location"] == "Dhaka"
    assert replies_to("It rains.", TOOLS) == ""
