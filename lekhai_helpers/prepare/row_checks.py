"""What is wrong with a row of examples, by itself and beside the others. Used by `prepare.dataset`, in notebook 03."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import regex

from lekhai_helpers.core.bengali import bengali_share, normalize
from lekhai_helpers.prepare.contracts import Contract, expected_of
from lekhai_helpers.prepare.sources import DatasetError, Row

_OURS = ("row", "usable", "split")  # columns that loading adds; the file's own of that name get a suffix
NO_INDUSTRY, NO_GROUP = "অন্যান্য", "other"  # where most is written in Bengali, and elsewhere
_TO_JUDGE_BY = 50  # rows that tell which of the two
_OPTIONAL = ("id", "industry", "tone", "brand", "product", "duration_seconds", "system_prompt")


@dataclass(frozen=True)
class RowProblem:
    """What is wrong with one row. `row` is the spreadsheet's number: the header is row 1."""

    row: int
    column: str
    problem: str
    level: Literal["error", "warning"]


def need_columns(path: Path, found: list[str], needed: list[str]) -> None:
    """Raise DatasetError, with the nearest name there is, where a column is missing."""
    missing = [name for name in dict.fromkeys(needed) if name not in found]
    if not missing:
        return
    free = [name for name in found if name not in needed]
    hints = []
    for name in missing:
        near = difflib.get_close_matches(name, free, n=1, cutoff=0.5)
        hints.append(f"{name!r} (the nearest is {near[0]!r}: rename it)" if near else f"{name!r}")
    raise DatasetError(f"{path.name} lacks the column {', '.join(hints)}. Columns found: {', '.join(found)}")


def other_group(rows: Sequence[Row]) -> str:
    """Return the group of rows without one, in the language of the file."""
    text = " ".join(cell for row in rows[:_TO_JUDGE_BY] for cell in row.cells.values())
    return NO_INDUSTRY if bengali_share(text) >= 0.5 else NO_GROUP


def record_of(row: Row, other: str) -> dict[str, Any]:
    """Turn a row of the file into a row of the table: text in NFC, optional columns filled in, the group by `other`."""
    cells = {f"{key}_in_file" if key in _OURS else key: normalize(cell) for key, cell in row.cells.items()}
    record: dict[str, Any] = {"row": row.number} | dict.fromkeys(_OPTIONAL, "") | cells
    record["industry"] = record["industry"] or other
    record["id"] = record["id"] or str(row.number)
    record["duration_seconds"] = seconds_of(record["duration_seconds"])
    if row.surplus:
        record["surplus_cells"] = json.dumps(row.surplus, ensure_ascii=False)
    return record


def seconds_of(text: str) -> int | None:
    """Return the number of "30", "30 s", "৩০ সেকেন্ড"; None where there is none."""
    number = regex.search(r"\d+", text)
    return int(number.group()) if number and int(number.group()) > 0 else None


def shape_problems(row: Row) -> list[RowProblem]:
    """Return what is wrong with the cells of a row before any of them is read."""
    if row.surplus:
        text = f"{len(row.surplus)} cell(s) more than the header: is a comma in a cell without quotation marks?"
        return [RowProblem(row.number, "", text, "error")]
    if row.missing:
        return [RowProblem(row.number, "", f"{row.missing} cell(s) fewer than the header; taken as empty", "warning")]
    duration = row.cells.get("duration_seconds", "").strip()
    if duration and seconds_of(duration) is None:
        text = f"no number of seconds in {duration!r}: the length is not checked"
        return [RowProblem(row.number, "duration_seconds", text, "warning")]
    return []


def row_problems(record: dict[str, Any], prompts: Sequence[str], contract: Contract) -> list[RowProblem]:
    """Check one row by itself: its prompts, its conversation, its script."""
    number, script = record["row"], record["script"]
    if not any(record[name] for name in (*prompts, "script")):
        return [RowProblem(number, "", "the row has neither prompt nor answer", "error")]
    found = _prompt_problems(record, prompts)
    if not script:
        return [*found, RowProblem(number, "script", "the answer is empty", "error")]
    if _lost_letters(script):
        text = "question marks stand where letters were: the file was once saved without Unicode; export it again"
        return [*found, RowProblem(number, "script", text, "error")]
    return found + _message_problems(record) + _script_problems(record, contract)


def _prompt_problems(record: dict[str, Any], prompts: Sequence[str]) -> list[RowProblem]:
    empty = [name for name in prompts if not record[name]]
    level: Literal["error", "warning"] = "error" if len(empty) == len(prompts) else "warning"
    return [RowProblem(record["row"], name, "the prompt is empty", level) for name in empty]


def _message_problems(record: dict[str, Any]) -> list[RowProblem]:
    """A conversation must end with the row's own answer, or something else would be learned than was checked."""
    if not record.get("messages"):
        return []
    last = json.loads(record["messages"])[-1]
    if last["role"] == "assistant" and normalize(last["content"]) == record["script"]:
        return []
    text = "the conversation does not end with the answer of the row: it must be its last message, by the assistant"
    return [RowProblem(record["row"], "messages", text, "error")]


def _script_problems(record: dict[str, Any], contract: Contract) -> list[RowProblem]:
    """A broken script is an error; a whole one that does not fit its length is only a warning."""
    number, script, seconds = record["row"], record["script"], record["duration_seconds"]
    broken = contract(script, expected_of(record.get("expected", ""))).problems
    found = [RowProblem(number, "script", problem, "error") for problem in broken]
    if seconds is not None and not broken:
        unfit = contract(script, seconds).problems
        found += [RowProblem(number, "script", problem, "warning") for problem in unfit]
    return found


def _lost_letters(script: str) -> bool:
    lost = regex.findall(r"\?{3,}", script)
    return bengali_share(script) == 0 and len(lost) > 1 and len("".join(lost)) > len(regex.findall(r"\p{L}", script))


def duplicates(records: list[dict[str, Any]], prompts: Sequence[str] = ()) -> list[RowProblem]:
    """Report the second and later rows that repeat a script or an id: they would leak between the splits.

    With `prompts`, a script is repeated only where the prompts are the same as well: one kind refusal answers many
    wishes. Of conversations the whole is compared: "Which city?" is a good answer to more than one of them.
    """
    problems = []
    for column in ("script", "id"):
        first: dict[str, int] = {}
        for record in records:
            key = _said(record, prompts) if column == "script" else " ".join(record[column].split())
            if key and key in first:
                text = f"the same {column} as in row {first[key]}"
                problems.append(RowProblem(record["row"], column, text, "error"))
            first.setdefault(key, record["row"])
    return problems


def _said(record: dict[str, Any], prompts: Sequence[str]) -> str:
    """Return what makes a row another one, "" for a row without a script."""
    asked = [record[name] for name in prompts] if record["script"] else []
    return "\n".join(" ".join(text.split()) for text in (record.get("messages") or record["script"], *asked)).strip()
