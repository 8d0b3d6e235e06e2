"""Conversations with a tool, in OpenAI's shape, one JSON object a line; one row for every answer worth learning.

Called as ``rows(path)``; taught in notebook 03. A call, a question back and a final answer are rows of one thread, each
with all that came before it. The same file type holds prompts to try a model on: ``prompt`` and ``expect`` instead of
``messages``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lekhai_helpers.prepare.sources.base import DatasetError, Row
from lekhai_helpers.prepare.sources.reading import json_lines, make_row, need_keys, need_text
from lekhai_helpers.prepare.tools import Call, ToolError, call_problems, parse_calls, parse_replies, plain_messages
from lekhai_helpers.prepare.weather import TOOLS

EXPECTATIONS = ("call", "ask", "answer", "no_call")
_KNOWN = 'A conversation is {"id", "messages"}, a prompt to try is {"id", "prompt", "expect"}'
_ASKING = ("missing", "ambiguous")  # kinds of conversation in which the assistant asks before it calls


def rows(path: Path) -> Iterator[Row]:
    """Yield one row for each answer of the assistant. Raises DatasetError with the line at fault: no JSON, a role that
    is not known, a call of a tool that does not exist or against its signature.
    """
    number = 2
    for line, record in json_lines(path):
        for cells in _prompt(path, line, record) if "prompt" in record else _conversation(path, line, record):
            yield make_row(number, file=Path(path).name, line=str(line), **cells)
            number += 1


def _prompt(path: Path, line: int, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the cells of a prompt to try a model on; it has no answer."""
    need_keys(path, line, record, ["prompt", "expect"], _KNOWN)
    need_text(path, line, record, "prompt")
    if record["expect"] not in EXPECTATIONS:
        where = f"{Path(path).name}, line {line}"
        raise DatasetError(f"{where}: expect is {record['expect']!r}, not one of {', '.join(EXPECTATIONS)}")
    expected: dict[str, Any] = {"expect": record["expect"]}
    if record.get("arguments"):
        expected["calls"] = [{"name": record.get("name", "get_weather"), "arguments": record["arguments"]}]
    cells = {
        "id": record.get("id") or f"line-{line}",
        "industry": record.get("kind", ""),
        "part": record.get("part", ""),
    }
    return [cells | {"prompt_1": record["prompt"].strip(), "expected": expected}]


def _conversation(path: Path, line: int, record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    need_keys(path, line, record, ["messages"], _KNOWN)
    where = f"{Path(path).name}, line {line}"
    name = record.get("id") or f"{Path(path).stem}-{line:04}"
    plain = _plain(where, record["messages"])
    for place, message in enumerate(plain):
        if message["role"] == "assistant" and message["content"].strip():
            so_far = plain[: place + 1]
            yield {
                "id": f"{name}-{sum(m['role'] == 'assistant' for m in so_far)}",
                "thread": name,
                "industry": record.get("kind") or "conversation",
                "prompt_1": so_far[-2]["content"] if place else "",
                "script": message["content"],
                "messages": so_far,
                "expected": _expected(where, so_far, record.get("kind", "")),
            }


def _plain(where: str, messages: Any) -> list[dict[str, Any]]:
    """Return a conversation in the plain format, without a system message of its own: the recipe has one."""
    if not isinstance(messages, list) or not all(isinstance(m, dict) and "role" in m for m in messages):
        raise DatasetError(f'{where}: messages must be a list of {{"role": ..., "content": ...}}')
    unknown = sorted({str(m["role"]) for m in messages} - {"system", "user", "assistant", "tool"})
    if unknown:
        raise DatasetError(f"{where}: the role {', '.join(unknown)} is not system, user, assistant or tool")
    if not all(map(_is_readable, messages)):
        raise DatasetError(f"{where}: content must be a text, and tool_calls a list of objects")
    filled = [m | {"content": m.get("content") or ""} for m in messages if m["role"] != "system"]
    if not filled or filled[0]["role"] != "user":
        raise DatasetError(f"{where}: a conversation begins with the user")
    try:
        return plain_messages(filled)
    except ToolError as error:
        raise DatasetError(f"{where}: {error}") from None


def _is_readable(message: Mapping[str, Any]) -> bool:
    content, calls = message.get("content") or "", message.get("tool_calls") or []
    return isinstance(content, str) and isinstance(calls, list) and all(isinstance(call, dict) for call in calls)


def _expected(where: str, so_far: Sequence[Mapping[str, str]], kind: str) -> dict[str, Any]:
    """Return what the last message is held against: its calls, the replies it must use, or that it calls nothing."""
    answer, before = so_far[-1]["content"], so_far[:-1]
    calls = _checked_calls(where, answer)
    if calls:
        return {"expect": "call", "calls": [{"name": one.name, "arguments": one.arguments} for one in calls]}
    replies = parse_replies(before[-1]["content"]) if before else []
    if replies:
        said = " ".join(message["content"] for message in before[:-1])
        return {"expect": "answer", "replies": replies, "said": said}
    return {"expect": "ask" if kind in _ASKING and "?" in answer else "no_call"}


def _checked_calls(where: str, answer: str) -> list[Call]:
    try:
        calls = parse_calls(answer)
    except ToolError as error:
        raise DatasetError(f"{where}: {error}") from None
    problems = [problem for call in calls for problem in call_problems(call, TOOLS)]
    if problems:
        raise DatasetError(f"{where}: {'; '.join(problems)}")
    return calls
