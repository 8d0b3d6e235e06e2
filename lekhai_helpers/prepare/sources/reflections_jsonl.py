"""Reflections as `lekhai extract` and `lekhai curate` write them: JSONL with messages and where each came from.

Called as ``rows(path)``; taught in notebook 03. Any JSONL with ``{"messages": [...]}`` does, if its last two messages
are a user's and the assistant's. ``briefs(path)`` reads scenarios to try a model on, which have a prompt and no answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lekhai_helpers.prepare.sources import briefs_jsonl
from lekhai_helpers.prepare.sources.base import DatasetError, Row
from lekhai_helpers.prepare.sources.reading import json_lines, make_row, need_keys

_KNOWN = 'A row holds {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}'
_ROLES = ("system", "user", "assistant")


def rows(path: Path) -> Iterator[Row]:
    """Yield one row for each conversation; the parts of one note have one `thread`. Raises DatasetError by line."""
    path = Path(path)
    for place, (line, record) in enumerate(json_lines(path), start=2):
        messages = conversation(path, line, record)
        name = str(record.get("id") or f"reflection-{line:05}")
        yield make_row(
            place,
            id=name,
            thread=_note(record) or name,
            industry=record.get("kind") or "",
            system_prompt=messages[0]["content"] if messages[0]["role"] == "system" else "",
            prompt_1=messages[-2]["content"],
            script=messages[-1]["content"],
            messages=_longer(messages),
            file=path.name,
            line=str(line),
        )


def briefs(path: Path) -> Iterator[Row]:
    """Yield one row for each scenario to try a model on. Raises DatasetError where a line asks nothing."""
    yield from briefs_jsonl.rows(path)


def conversation(path: Path, line: int, record: dict[str, Any]) -> list[dict[str, str]]:
    """Return the messages of one row. Raises DatasetError where they are not a question and its answer at the end."""
    need_keys(path, line, record, ["messages"], _KNOWN)
    messages = record["messages"]
    if not isinstance(messages, list) or not all(map(_is_message, messages)):
        raise DatasetError(f"{path.name}, line {line}: messages must be a list of roles and contents. {_KNOWN}")
    if [message["role"] for message in messages[-2:]] != ["user", "assistant"]:
        raise DatasetError(f"{path.name}, line {line}: the last two messages must be of user and assistant. {_KNOWN}")
    if not all(message["content"].strip() for message in messages):
        raise DatasetError(f"{path.name}, line {line}: a message is empty; delete the row, or give it words")
    return messages


def _note(record: dict[str, Any]) -> str:
    """Return the path of the note a row came from; other programs write what they like under "source"."""
    source = record.get("source")
    path = source.get("path") if isinstance(source, dict) else None
    return path if isinstance(path, str) else ""


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") in _ROLES and isinstance(message.get("content"), str)


def _longer(messages: list[dict[str, str]]) -> list[dict[str, str]] | str:
    """Return the conversation where it is more than one question and its answer, without the system's words."""
    said = [message for message in messages if message["role"] != "system"]
    return said if len(said) > 2 else ""
