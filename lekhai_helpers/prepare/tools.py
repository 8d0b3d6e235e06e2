"""Tools a model may call: how they are told to it, how it calls them, how the reply comes back. Taught in notebook 03.

One plain format for every template, since many have none of their own:

    system     the recipe's words, then the tools as JSON and how to call one (`system_text`)
    assistant  <tool_call>{"name": "get_weather", "arguments": {"location": "Dhaka", "date": "today"}}</tool_call>
    user       <tool_response>{"temperature_c": 29, ...}</tool_response>

Two calls are two lines, and so are their replies. The format is the same on every base, also where the tokenizer's
template knows tools: every program that serves the model (llama.cpp, Ollama, an OpenAI client) sends it plain messages
and so asks it just as it was trained. `parse_calls` reads this format and what models trained elsewhere write instead.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import regex

from lekhai_helpers.prepare.model_json import NoJson, read_json

Message = dict[str, Any]
Tool = Mapping[str, Any]

_CALL = regex.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", regex.DOTALL)
_REPLY = regex.compile(r"<tool_response>\s*(.*?)\s*</tool_response>", regex.DOTALL)
# What other models write as their whole answer: Mistral's mark before a list, Llama's before an object, or none at all.
_OTHER = regex.compile(
    r"\s*+(\[TOOL_CALLS\]|<\|python_tag\|>)?\s*+(\[\s*\{.*\}\s*\]|\{.*\})\s*", regex.DOTALL | regex.IGNORECASE
)
_MARK = regex.compile(r"</?tool_call|\[TOOL_CALLS?\]|<\|python_tag\|>|</?function(?:_call)?s?\b", regex.IGNORECASE)
_SHAPE = tuple(
    regex.compile(rf"[\"'](?:{key})[\"']\s*+:", regex.IGNORECASE) for key in ("name", "arguments|parameters")
)
_HOW = (
    "You have these tools:\n{tools}\n"
    'To use one, answer with nothing but <tool_call>{{"name": "...", "arguments": {{...}}}}</tool_call>. Its reply '
    "comes back in <tool_response></tool_response>; answer from it, and add no figure of your own."
)


class ToolError(ValueError):
    """A call that cannot be read or made; the text says what is wrong with it."""


@dataclass(frozen=True)
class Call:
    """One call of a tool, as read from a text."""

    name: str
    arguments: dict[str, Any]

    def to_text(self) -> str:
        """Return the call as the assistant writes it."""
        body = json.dumps({"name": self.name, "arguments": self.arguments}, ensure_ascii=False)
        return f"<tool_call>{body}</tool_call>"


def system_text(words: str, tools: Sequence[Tool]) -> str:
    """Return the system message: the recipe's own words, then the tools and how to call one."""
    listed = "\n".join(json.dumps(_function(tool), ensure_ascii=False) for tool in tools)
    return f"{words.strip()}\n\n{_HOW.format(tools=listed)}"


def _function(tool: Tool) -> Mapping[str, Any]:
    return tool.get("function", tool)


def _calls(message: Message) -> list[dict[str, Any]]:
    return message.get("tool_calls") or []


def plain_messages(messages: Sequence[Message]) -> list[Message]:
    """Return a conversation with its calls and replies as text; replies to one message come in one user message."""
    plain: list[Message] = []
    waiting = 0
    for message in messages:
        calls = _calls(message)
        if message["role"] == "tool":
            if not waiting:
                raise ToolError(f"a tool replies without having been called: {str(message.get('content'))[:80]!r}")
            waiting -= 1
            _append(plain, "user", f"<tool_response>{message['content']}</tool_response>")
        elif calls:
            waiting = len(calls)
            text = "\n".join(_openai_call(call).to_text() for call in calls)
            plain.append(
                {"role": "assistant", "content": "\n".join(part for part in (message["content"], text) if part)}
            )
        else:
            plain.append({"role": message["role"], "content": message["content"]})
    return plain


def _append(plain: list[Message], role: str, text: str) -> None:
    """Add a message, joined to the one before where both are the user's: some templates need turns to alternate."""
    if plain and plain[-1]["role"] == role:
        plain[-1]["content"] += f"\n{text}"
    else:
        plain.append({"role": role, "content": text})


def _openai_call(call: Any) -> Call:
    """Read a call of a message; OpenAI writes its arguments as JSON text, most data sets as an object."""
    return _call(call.get("function", call) if isinstance(call, Mapping) else call)


def parse_calls(text: str) -> list[Call]:
    """Return the calls in a text, none where it calls nothing.

    Raises ToolError where a call is begun and not readable, stands in another form among words, or where the text
    writes the tool's reply itself.
    """
    if regex.search(r"</?tool_response", text, regex.IGNORECASE):
        raise ToolError("it writes the reply of a tool, which only the tool may give")
    found = _CALL.findall(text)
    if not found:
        return _other_calls(text)
    if text.count("<tool_call>") != text.count("</tool_call>"):
        raise ToolError("a call is begun with <tool_call> and never closed with </tool_call>")
    return [_call(_object(body)) for body in found]


def _other_calls(text: str) -> list[Call]:
    """Return the calls of a text that is nothing but a call in another model's form."""
    shaped = all(key.search(text) for key in _SHAPE)
    whole = _OTHER.fullmatch(text)
    if whole and (shaped or whole.group(1)):
        found = _object(whole.group(2))
        return [_openai_call(one) for one in (found if isinstance(found, list) else [found])]
    if mark := _MARK.search(text):
        raise ToolError(f"a call is begun in a form that cannot be read: {text[mark.start() :][:80]}")
    if shaped:
        raise ToolError("a call stands in a form of its own: it must be <tool_call>{...}</tool_call> and nothing else")
    return []


def _object(body: str) -> Any:
    try:
        return read_json(body)
    except NoJson as error:
        raise ToolError(f"the call is no JSON ({error}): {body[:80]}") from None


def _call(found: Any) -> Call:
    if not isinstance(found, Mapping) or not isinstance(found.get("name"), str):
        raise ToolError(f'a call must be {{"name": ..., "arguments": {{...}}}}, not {json.dumps(found)[:80]}')
    arguments = found.get("arguments", found.get("parameters", {}))
    if isinstance(arguments, str):
        arguments = _object(arguments)
    if not isinstance(arguments, Mapping):
        raise ToolError(f"the arguments of {found['name']} must be an object, not {json.dumps(arguments)[:80]}")
    return Call(found["name"], dict(arguments))


def parse_replies(text: str) -> list[Any]:
    """Return the tools' replies in a user message, read as JSON; a reply that is none comes back as its text."""
    replies = []
    for body in _REPLY.findall(text):
        try:
            replies.append(read_json(body))
        except NoJson:
            replies.append(body)
    return replies


def call_problems(call: Call, tools: Sequence[Tool]) -> list[str]:
    """Return how a call breaks its tool's signature: no such tool, an argument missing, unknown, of a wrong type,
    or a day that no calendar has.
    """
    import jsonschema

    known = {_function(tool)["name"]: _function(tool) for tool in tools}
    if call.name not in known:
        return [f"there is no tool named {call.name!r}; known: {', '.join(known)}"]
    schema = {"additionalProperties": False} | dict(known[call.name]["parameters"])
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    wrong = [error.message for error in validator.iter_errors(call.arguments)] or _no_such_day(call)
    return [f"{call.name}: {problem}" for problem in wrong]


def _no_such_day(call: Call) -> list[str]:
    """Return what is wrong with a day that has the form of one; a pattern cannot know how long February is."""
    day = str(call.arguments.get("date", ""))
    try:
        if regex.fullmatch(r"\d{4}-\d\d-\d\d", day, regex.ASCII):
            date.fromisoformat(day)
    except ValueError as error:
        return [f"there is no day {day} ({error})"]
    return []
