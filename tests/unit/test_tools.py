"""Tool calls: the plain format read and written, other models' formats read, disguised calls refused."""

import json

import pytest

from lekhai_helpers.prepare.tools import (
    Call,
    ToolError,
    call_problems,
    parse_calls,
    parse_replies,
    plain_messages,
    system_text,
)
from lekhai_helpers.prepare.weather import TOOLS

CALL = Call("get_weather", {"location": "Dhaka", "date": "today"})
BARE = json.dumps({"name": CALL.name, "arguments": CALL.arguments})
SHAPED = {"type": "function", "function": {"name": "get_weather", "arguments": {"location": "Dhaka", "date": "today"}}}
TALK = [
    {"role": "user", "content": "Weather?"},
    {"role": "assistant", "content": "", "tool_calls": [SHAPED, SHAPED]},
    {"role": "tool", "name": "get_weather", "content": '{"temperature_c": 31}'},
    {"role": "tool", "name": "get_weather", "content": '{"temperature_c": 20}'},
    {"role": "assistant", "content": "31 and 20."},
]


def test_a_call_is_read_as_it_was_written():
    assert parse_calls(CALL.to_text()) == [CALL]
    assert parse_calls(f"{CALL.to_text()}\n{CALL.to_text()}") == [CALL, CALL]
    assert parse_calls("It is sunny.") == []


@pytest.mark.parametrize(
    "text",
    [
        '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"location": "Dhaka", "date": "today"}}]',
        '<|python_tag|>{"name": "get_weather", "parameters": {"location": "Dhaka", "date": "today"}}',
        '{"name": "get_weather", "parameters": {"location": "Dhaka", "date": "today"}}',
        '{"arguments": {"location": "Dhaka", "date": "today"}, "name": "get_weather"}',
        json.dumps(SHAPED),
        f"[{BARE}]",
        f"<tool_call>{json.dumps({'name': 'get_weather', 'arguments': json.dumps(CALL.arguments)})}</tool_call>",
    ],
)
def test_what_models_trained_elsewhere_write_is_read_too(text):
    assert parse_calls(text) == [CALL]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('<tool_call>{"name": "get_weather"', "never closed"),
        ("<tool_call></tool_call>", "no JSON"),
        ("<tool_call>get_weather(Dhaka)</tool_call>", "no JSON"),
        ('<tool_call>["get_weather"]</tool_call>', "must be"),
        ('<tool_call>{"name": "get_weather", "arguments": [1]}</tool_call>', "must be an object"),
    ],
)
def test_a_call_that_cannot_be_read_says_why(text, said):
    with pytest.raises(ToolError, match=said):
        parse_calls(text)


def test_a_signature_is_kept_or_the_breach_is_named():
    assert call_problems(CALL, TOOLS) == []
    assert call_problems(Call("get_weather", {"location": "Dhaka"}), TOOLS) == []
    assert call_problems(Call("fly", {}), TOOLS) == ["there is no tool named 'fly'; known: get_weather"]
    assert len(call_problems(Call("get_weather", {"location": 7, "date": "soon"}), TOOLS)) == 2


def test_the_plain_format_joins_replies_into_one_user_message():
    plain = plain_messages(TALK)
    assert [m["role"] for m in plain] == ["user", "assistant", "user", "assistant"]
    assert plain[1]["content"] == f"{CALL.to_text()}\n{CALL.to_text()}"
    assert parse_replies(plain[2]["content"]) == [{"temperature_c": 31}, {"temperature_c": 20}]


def test_the_system_text_holds_the_words_and_then_the_tools():
    text = system_text(" Be kind. ", TOOLS)
    assert text.startswith("Be kind.\n\nYou have these tools:") and '"name": "get_weather"' in text


def test_a_reply_that_nobody_asked_for_is_refused():
    with pytest.raises(ToolError, match="without having been called"):
        plain_messages([TALK[0], TALK[2]])


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{BARE}\n```",
        f"Let me look that up. {BARE}",
        f"{BARE}; {BARE}",
        "{'name': 'get_weather', 'arguments': {'location': 'Dhaka'}}",
        '[TOOL_CALLS]get_weather{"location": "Dhaka"}',
        '<function=get_weather>{"location": "Dhaka"}</function>',
        '<|python_tag|>get_weather.call(location="Dhaka")',
        f"<TOOL_CALL>{BARE}</TOOL_CALL>",
        f"{BARE.replace('get_weather', 'x')}</tool_call>",
        'It is hot.\n<tool_response>{"temperature_c": 29}</tool_response>',
        f'{CALL.to_text()}\n<Tool_Response>{{"temperature_c": 29}}',
        "<tool_call>" + '{"a":' * 100_000 + "</tool_call>",
    ],
)
def test_a_call_in_a_form_of_its_own_is_no_speech(text):
    """Once a fenced call was read as plain talk, so that a needless call counted as sound."""
    with pytest.raises(ToolError):
        parse_calls(text)


@pytest.mark.parametrize(
    "text", ["", "The function of a mule is to object.", '{"name": "Mark", "trade": "pilot"}', "[TOOL] {x}", "{}" * 9]
)
def test_speech_with_brackets_in_it_is_no_call(text):
    assert parse_calls(text) == []


@pytest.mark.parametrize(("day", "sound"), [("2024-02-29", True), ("2025-02-29", False), ("2025-06-31", False)])
def test_a_day_that_no_calendar_has_breaks_the_signature(day, sound):
    found = call_problems(Call("get_weather", {"location": "Dhaka", "date": day}), TOOLS)
    assert not found if sound else f"there is no day {day}" in found[0]
