"""Tutoring conversations, judged texts and learning paths, one JSON object a line. Called as ``rows(path)``.

A line has instruction, input and output; ours also name task, subject and level. The file of prompts to try a model on
has ``expected`` in place of output: it is read by the same function. Taught in notebook 03.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lekhai_helpers.prepare.contracts.tutor_json import TASKS, task_of
from lekhai_helpers.prepare.sources.base import DatasetError, Row
from lekhai_helpers.prepare.sources.reading import json_lines, make_row, need_keys, need_text

_KNOWN = 'A line is {"instruction": ..., "input": ..., "output": ...}, a prompt has "expected" in place of output'


def rows(path: Path) -> Iterator[Row]:
    """Yield one row a line. Raises DatasetError with the line at fault: no JSON, other keys, an unknown task."""
    for number, (line, record) in enumerate(json_lines(path), start=2):
        need_keys(path, line, record, ["instruction"], _KNOWN)
        need_text(path, line, record, "instruction")
        if "output" not in record and "expected" not in record:
            need_keys(path, line, record, ["output"], _KNOWN)
        yield make_row(number, file=Path(path).name, line=str(line), **_cells(path, line, record))


def _cells(path: Path, line: int, record: Mapping[str, Any]) -> dict[str, Any]:
    answer, right = _as_text(record.get("output")), _as_text(record.get("expected"))
    task = record.get("task") or task_of(answer or right)
    if task not in TASKS:
        raise DatasetError(f"{Path(path).name}, line {line}: the task {task!r} is not one of {', '.join(TASKS)}")
    asked = [part for part in (record["instruction"], _as_text(record.get("input"))) if part.strip()]
    expected: dict[str, Any] = {"task": task}
    if right and task == "classification":
        expected["answer"] = _right_answer(path, line, right)
    prompt = "\n\n".join(part.strip() for part in asked)
    # As a conversation: of two texts with the same judgement the whole is compared, among the rows and for leaks.
    talk = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer.strip()}]
    return {
        "id": record.get("id") or f"line-{line}",
        "industry": record.get("subject", ""),
        "prompt_1": prompt,
        "script": answer.strip(),
        "messages": talk if answer.strip() else "",
        "expected": expected,
        "part": record.get("part", ""),
    }


def _as_text(value: Any) -> str:
    """Return an answer as text; some files hold the JSON of an answer as an object."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)


def _right_answer(path: Path, line: int, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DatasetError(f"{Path(path).name}, line {line}: expected is no JSON ({error.msg})") from None
