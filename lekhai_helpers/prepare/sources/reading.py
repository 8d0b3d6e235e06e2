"""What the sources share: the columns of a row, careful reading of text and JSON lines, and what was left out.

A source that leaves something out (a copy, a headline that is only a link) says so: ``read(path)`` gives a `Reading`,
``rows(path)`` its rows alone. Taught in notebook 03.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lekhai_helpers.prepare.sources.base import DatasetError, Row, source_module

# What every row has, whatever the recipe. industry is the group that splits and heatmaps spread over; rows of one
# thread are never parted by the split; messages and expected are JSON.
COLUMNS = (
    "id", "thread", "industry", "tone", "system_prompt", "prompt", "prompt_1", "script", "messages", "expected",
    "part", "file", "line",
)  # fmt: skip
_OLD_ENCODINGS = ("utf-8-sig", "cp1252")  # books of the nineties are in the second
_MAGIC = {b"PK\x03\x04": "a zip archive or a workbook", b"%PDF": "a PDF", b"\x1f\x8b": "a gzip archive"}


@dataclass(frozen=True)
class LeftOut:
    """One thing of a file that became no row, and why. `line` is where it begins in the file, from 1."""

    file: str
    line: int
    reason: str
    text: str


@dataclass(frozen=True)
class Reading:
    """What a file gave: its rows, and all that was left out of them."""

    rows: list[Row] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def read_source(name: str) -> Callable[[Path], Reading]:
    """Return what reads a source's file and says what was left out of it; many sources leave nothing out."""
    module = source_module(name)
    return getattr(module, "read", None) or (lambda path: Reading(list(module.rows(path))))


def make_row(number: int, **cells: Any) -> Row:
    """Return a row with every column of `COLUMNS`; lists and dicts become JSON. `number` counts from 2, as the rows
    of a spreadsheet under its header do. ``prompt`` and ``thread`` follow from prompt_1 and id where not given.
    """
    filled = dict.fromkeys(COLUMNS, "") | {name: _cell(value) for name, value in cells.items()}
    filled["prompt"] = filled["prompt"] or filled["prompt_1"]
    filled["thread"] = filled["thread"] or filled["id"]
    return Row(number, filled)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def numbered(rows: Iterable[Row]) -> list[Row]:
    """Return the rows numbered from 2 on, as a table of all of them would be."""
    return [Row(number, row.cells, row.surplus, row.missing) for number, row in enumerate(rows, start=2)]


def read_text(path: Path) -> str:
    """Return the text of a file, in UTF-8 or, for the books of the nineties, in cp1252; line ends are ``\\n``.

    Raises DatasetError where the file is missing, is not text, or is empty.
    """
    path = Path(path)
    if not path.is_file():
        raise DatasetError(f"{path.name} was not found: give the path of a text file")
    data = path.read_bytes()
    what = next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)
    if what or b"\0" in data[:4096]:
        raise DatasetError(f"{path.name} is {what or 'a binary file'}, not text: save it as plain text in UTF-8")
    if not data.strip():
        raise DatasetError(f"{path.name} is empty: is the download or the export whole?")
    return _decode(path, data).replace("\r\n", "\n").replace("\r", "\n")


def _decode(path: Path, data: bytes) -> str:
    for encoding in _OLD_ENCODINGS:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise DatasetError(f"{path.name} is neither UTF-8 nor cp1252 text: save it again as plain text in UTF-8")


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) for every line of a JSONL file; blank lines are passed over.

    Raises DatasetError with the line that is no JSON object, or where the file is missing, binary or empty.
    """
    path = Path(path)
    # Not splitlines(): a line separator inside a JSON string (U+2028) is no end of a line.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, _object(path, number, line)


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        raise DatasetError(
            f"{path.name}, line {number} is no JSON ({error.msg} at character {error.pos + 1}): every line must hold "
            'one whole object, {"...": "..."}'
        ) from None
    except RecursionError:
        raise DatasetError(
            f"{path.name}, line {number} holds brackets in brackets, too deep to be read: is it a row of data?"
        ) from None
    if not isinstance(found, dict):
        raise DatasetError(f"{path.name}, line {number} holds no object but {type(found).__name__}: write {{...}}")
    return found


def need_keys(path: Path, number: int, row: Mapping[str, Any], needed: Iterable[str], known: str) -> None:
    """Raise DatasetError where a row lacks a key; `known` says in words what rows look like."""
    missing = [name for name in needed if name not in row]
    if missing:
        raise DatasetError(
            f"{Path(path).name}, line {number} has no {', '.join(missing)}; it has {', '.join(row) or 'nothing'}. "
            f"{known}"
        )


def need_text(path: Path, number: int, row: Mapping[str, Any], *names: str) -> None:
    """Raise DatasetError where one of the named values is no text or an empty one."""
    wrong = [name for name in names if not isinstance(row.get(name), str) or not row[name].strip()]
    if wrong:
        raise DatasetError(f"{Path(path).name}, line {number}: {', '.join(wrong)} must be a text that is not empty")


def optional_text(path: Path, number: int, row: Mapping[str, Any], name: str) -> str:
    """Return a value without the spaces around it, "" for null or none. Raises DatasetError where it is no text."""
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise DatasetError(f"{Path(path).name}, line {number}: {name} must be a text, not {type(value).__name__}")
    return (value or "").strip()
