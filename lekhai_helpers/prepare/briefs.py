"""The evaluation briefs: what every stage is asked, frozen in a CSV or JSONL file. Taught in notebooks 03 and 05.

``briefs_of(settings)`` gives those of a recipe; ``load_briefs(path)`` reads a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Real
from pathlib import Path
from typing import Any, Literal, get_args

from lekhai_helpers.core.recipe import Settings, data_file
from lekhai_helpers.prepare.row_checks import need_columns, other_group, record_of
from lekhai_helpers.prepare.sources import DatasetError, get_brief_source

BRIEFS = "briefs_jsonl"  # reads JSON lines that no source of a recipe is named for
Message = dict[str, str]
Part = Literal["development", "heldout"]


@dataclass(frozen=True)
class Brief:
    """What is asked; the evaluation writes one answer to it.

    ``industry`` is the group it belongs to, whatever the recipe calls its groups. ``expected`` is JSON of what the
    contract holds the answer against, ``messages`` JSON of a conversation up to the question; both may be empty.
    """

    id: str
    industry: str
    tone: str
    duration_seconds: int | None
    brand: str
    product: str
    prompt: str
    expected: str = ""
    messages: str = ""

    def asked(self, system_prompt: str) -> list[Message]:
        """Return the messages it is sent as: the system prompt, then the conversation, or the prompt alone."""
        own = json.dumps([{"role": "user", "content": self.prompt}], ensure_ascii=False)
        return conversation(self.messages or own, system_prompt)


def conversation(messages: str, system_prompt: str) -> list[Message]:
    """Return a conversation (JSON) with the system prompt before it, unless it brings a system message of its own."""
    found = json.loads(messages)
    own = found[0]["role"] == "system"
    return found if own else [{"role": "system", "content": system_prompt}, *found]


def briefs_of(settings: Settings, part: Part | None = "development") -> list[Brief]:
    """Return the briefs a recipe is examined with: `evaluation.limit` of one part; for None all of both parts."""
    limit = settings.evaluation.limit if part else None
    return load_briefs(data_file(settings.evaluation.briefs), limit, part, settings.data.source)


def load_briefs(
    path: Path, limit: int | None = None, part: Part | None = "development", source: str | None = None
) -> list[Brief]:
    """Return the evaluation briefs of a CSV or JSONL file, the first `limit` of one `part` (None takes both).

    Columns prompt, id, industry, tone, duration_seconds, brand, product, part, expected, messages; only prompt is
    needed, and a brief without a part is for development. The held-out ones are for the last exam of notebook 12, and
    for questions with one right answer, by which nothing is chosen. `source` names what reads the file where it is no
    CSV. Raises DatasetError with the row at fault.
    """
    path = Path(path)
    briefs: dict[str, Brief] = {}
    seen: set[str] = set()
    read = get_brief_source("ad_script_csv" if path.suffix.lower() == ".csv" else source or BRIEFS)
    rows = list(read(path))
    other = other_group(rows)
    for row in rows:
        need_columns(path, list(row.cells), ["prompt"])
        record = record_of(row, other)
        found = _part_of(path, record, seen)
        seen.add(record["id"])
        if part in (None, found):
            briefs[record["id"]] = _brief(record)
    if not briefs:
        raise DatasetError(f"{path.name} holds no {part or ''} brief".replace("  ", " "))
    return list(briefs.values())[:limit]


def _part_of(path: Path, record: dict[str, Any], seen: set[str]) -> str:
    """Return the part of a brief. Raises DatasetError where the brief cannot be used."""
    where = f"{path.name}, row {record['row']}"
    if not record["prompt"]:
        raise DatasetError(f"{where}: the prompt is empty")
    if record["id"] in seen:
        raise DatasetError(f"{where}: the id {record['id']} stands there twice")
    found = record.get("part") or "development"
    if found not in get_args(Part):
        raise DatasetError(f"{where}: part is {found!r}, not one of {', '.join(get_args(Part))}")
    return found


def brief_of_row(row: Mapping[Any, Any], prompt: str) -> Brief:
    """Return the brief that a row of the checked table answers, as `prompt` words it."""
    length = _whole(row.get("duration_seconds"))
    parts = {name: str(row.get(name) or "") for name in ("id", "industry", "tone", "brand", "product", "expected")}
    asked = json.dumps(json.loads(row["messages"])[:-1], ensure_ascii=False) if row.get("messages") else ""
    return Brief(**parts, duration_seconds=length, prompt=prompt, messages=asked)


def _whole(number: Any) -> int | None:
    """Return a whole number; None for what a table has where there is none: None, NaN, or pandas' NA."""
    return int(float(number)) if isinstance(number, Real) and number == number else None


def _brief(record: dict[str, Any]) -> Brief:
    return Brief(**{field.name: record[field.name] for field in fields(Brief) if field.name in record})
