"""Tools a model may call: how they are told to it, how it calls them, how the reply comes back. Taught in notebook 03.

One plain format for every template, since many have none of their own:

    system     the recipe's words, then the tools as JSON and how to call one (`system_text`)
    assistant  <tool_call>{"name": "get_weather", "arguments": {"location": "Dhaka", "date": "today"}}</tool_call>
    user       <tool_response>{"temperature_c": 29, ...}</tool_response>

Two calls are two lines, and so are their replies. Where a tokenizer's template has a tool format of its own, `render`
uses that instead. `parse_calls` reads the plain format and what models trained elsewhere write in its place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import regex

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


def tool_messages(messages: Sequence[Message], tools: Sequence[Tool], tokenizer: Any = None) -> list[Message]:
    """Return a conversation for a template: in the plain format, or as it is where `tokenizer` has its own.

    `messages` are in OpenAI's shape (tool_calls, role tool). The first message becomes the system message that tells of
    the tools, added where there is none. Raises ToolError where a reply has no call before it.
    """
    if tokenizer is not None and has_tool_format(tokenizer, tools):
        return _with_ids(messages)
    head, rest = (messages[0], messages[1:]) if messages and messages[0]["role"] == "system" else ({}, messages)
    system = {"role": "system", "content": system_text(head.get("content", ""), tools).strip()}
    return [system, *plain_messages(rest)]


def _with_ids(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with an id for every call and for the reply to it: some templates refuse them without."""
    shaped: list[Message] = []
    waiting: list[str] = []
    number = 0
    for message in messages:
        if message["role"] == "tool":
            if not waiting:
                raise ToolError(f"a tool replies without having been called: {str(message.get('content'))[:80]!r}")
            shaped.append(message | {"tool_call_id": waiting.pop(0)})
            continue
        calls = [{"type": "function", "id": f"call{number + n:05}"} | call for n, call in enumerate(_calls(message))]
        number += len(calls)
        waiting += [call["id"] for call in calls]
        shaped.append(message | ({"tool_calls": calls} if calls else {}))
    return shaped


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
        return json.loads(body)
    except json.JSONDecodeError as error:
        raise ToolError(f"the call is no JSON ({error.msg} at character {error.pos + 1}): {body[:80]}") from None
    except RecursionError:
        raise ToolError(f"the call is nested too deeply: {body[:80]}") from None


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
            replies.append(json.loads(body))
        except (json.JSONDecodeError, RecursionError):
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


def has_tool_format(tokenizer: Any, tools: Sequence[Tool]) -> bool:
    """Say whether a tokenizer's template tells of tools, writes calls and takes replies; tried, not guessed.

    A template that lists the tools but fails on a call, or loses it, has no format to learn from.
    """
    from jinja2.exceptions import TemplateError

    name = _function(tools[0])["name"]
    call = {"type": "function", "id": "call00001", "function": {"name": name, "arguments": {"probe": "ARGUMENT-TEXT"}}}
    trial = [
        {"role": "user", "content": "USER-TEXT"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "name": name, "tool_call_id": "call00001", "content": "REPLY-TEXT"},
        {"role": "assistant", "content": "ANSWER-TEXT"},
    ]
    try:
        with_tools = tokenizer.apply_chat_template(trial, tools=[dict(tool) for tool in tools], tokenize=False)
        without = tokenizer.apply_chat_template(trial, tokenize=False)
    except (TemplateError, TypeError, KeyError):  # what a template raises for a role or a field it does not know
        return False
    told = with_tools.count(name) > without.count(name)
    return told and all(word in with_tools for word in ("ARGUMENT-TEXT", "REPLY-TEXT", "ANSWER-TEXT"))


def render(messages: Sequence[Message], tools: Sequence[Tool], tokenizer: Any) -> str:
    """Return the whole conversation as the tokenizer's template writes it, in its own tool format where it has one."""
    shaped = tool_messages(messages, tools, tokenizer)
    own = {"tools": [dict(tool) for tool in tools]} if has_tool_format(tokenizer, tools) else {}
    return str(tokenizer.apply_chat_template(shaped, tokenize=False, **own))
