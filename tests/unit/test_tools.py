"""Tool calls: the plain format read and written, other models' formats read, a template's own format used."""

import json

import pytest

from lekhai_helpers.prepare.tools import (
    Call,
    ToolError,
    call_problems,
    has_tool_format,
    parse_calls,
    parse_replies,
    render,
    system_text,
    tool_messages,
)
from lekhai_helpers.prepare.weather import TOOLS

CALL = Call("get_weather", {"location": "Dhaka", "date": "today"})
SHAPED = {"type": "function", "function": {"name": "get_weather", "arguments": {"location": "Dhaka", "date": "today"}}}
TALK = [
    {"role": "user", "content": "Weather?"},
    {"role": "assistant", "content": "", "tool_calls": [SHAPED, SHAPED]},
    {"role": "tool", "name": "get_weather", "content": '{"temperature_c": 31}'},
    {"role": "tool", "name": "get_weather", "content": '{"temperature_c": 20}'},
    {"role": "assistant", "content": "31 and 20."},
]
PLAIN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
NATIVE = (
    "{% if tools %}TOOLS {{ tools | tojson }}{% endif %}{% for m in messages %}<{{ m.role }}>"
    "{% for c in m.tool_calls or [] %}[CALL {{ c.id }} {{ c.function.name }} {{ c.function.arguments | tojson }}]"
    "{% endfor %}"
    "{% if m.role == 'tool' %}[{{ m.tool_call_id }}]{% endif %}{{ m.content }}{% endfor %}"
)
LISTS_ONLY = "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}"
REFUSES = "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no such role') }}{% endif %}{% endfor %}"


def tokenizer(template: str):
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    made = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0}, unk_token="a")))
    made.chat_template = template
    return made


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
    plain = tool_messages(TALK, TOOLS)
    assert [m["role"] for m in plain] == ["system", "user", "assistant", "user", "assistant"]
    assert plain[2]["content"] == f"{CALL.to_text()}\n{CALL.to_text()}"
    assert parse_replies(plain[3]["content"]) == [{"temperature_c": 31}, {"temperature_c": 20}]
    assert '"name": "get_weather"' in plain[0]["content"]


def test_a_system_message_of_ones_own_comes_before_the_tools():
    plain = tool_messages([{"role": "system", "content": "Be kind."}, *TALK], TOOLS)
    assert plain[0]["content"] == system_text("Be kind.", TOOLS)
    assert plain[0]["content"].startswith("Be kind.\n\nYou have these tools:")


@pytest.mark.parametrize("template", [PLAIN, NATIVE])
def test_a_reply_that_nobody_asked_for_is_refused(template):
    with pytest.raises(ToolError, match="without having been called"):
        tool_messages([TALK[0], TALK[2]], TOOLS, tokenizer(template))


@pytest.mark.parametrize(("template", "own"), [(PLAIN, False), (NATIVE, True), (LISTS_ONLY, False), (REFUSES, False)])
def test_whether_a_template_has_a_format_of_its_own_is_tried(template, own):
    """A template that lists tools and loses the calls looks as if it knew them."""
    assert has_tool_format(tokenizer(template), TOOLS) is own


def test_a_templates_own_format_is_used_where_it_has_one():
    own = render(TALK, TOOLS, tokenizer(NATIVE))
    assert own.startswith("TOOLS") and "[CALL call00000 get_weather" in own and "[call00001]" in own
    assert "<tool_call>" not in own
    plain = render(TALK, TOOLS, tokenizer(PLAIN))
    assert "<tool_call>" in plain and "<user><tool_response>" in plain
