"""Instructions with a good and a bad answer, in the columns of Vaibhaav/alignment-instructions. Taught in notebook 03.

Called as ``rows(path)`` on a JSONL file, on a folder of a data set's own files (csv, json or parquet, as downloaded),
or on the set's name on a hub; ``briefs(path)`` reads prompts to try a model on. What is learnt is the accepted answer;
the rejected one stays beside it for preference pairs and is never shown as an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import regex

from lekhai_helpers.prepare.safety_categories import NONE, categorize
from lekhai_helpers.prepare.sources.base import DatasetError, Row
from lekhai_helpers.prepare.sources.reading import json_lines, make_row, need_keys, need_text, optional_text

FOLDERS = True
PROMPT, ACCEPTED, REJECTED, HOW = "Prompt", "Accepted Response", "Rejected Response", "Instruction generated"
_KNOWN = f'A row has "{PROMPT}", "{ACCEPTED}" and "{REJECTED}"'
_ID = regex.compile(r"^align-([a-z_]+)-[a-z]+-\d+-(safe|unsafe)$")  # our own rows say area and side in their id


def rows(path: Path) -> Iterator[Row]:
    """Yield one row for each instruction. Raises DatasetError where the file is no JSONL or lacks a column."""
    path = Path(path)
    for number, (line, record) in enumerate(_records(path), start=2):
        need_keys(path, line, record, [PROMPT, ACCEPTED, REJECTED], _KNOWN)
        need_text(path, line, record, PROMPT)
        yield make_row(number, file=path.name, line=str(line), **_cells(path, line, record))


def _cells(path: Path, line: int, record: Mapping[str, Any]) -> dict[str, Any]:
    prompt = record[PROMPT].strip()
    known = _ID.match(str(record.get("id", "")))
    area, side = known.groups() if known else (categorize(prompt), "")
    return {
        "id": record.get("id") or f"instruction-{line:05}",
        "industry": area,
        "prompt_1": prompt,
        "script": optional_text(path, line, record, ACCEPTED),
        "rejected": optional_text(path, line, record, REJECTED),
        "how": optional_text(path, line, record, HOW),
        "expected": {"side": side} if side else "",
    }


def _records(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    own = path / "instructions.jsonl"
    if own.is_file():
        yield from json_lines(own)
    elif path.is_dir() or not path.suffix:
        yield from _data_set(path)
    else:
        yield from json_lines(path)


def _data_set(where: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Read a folder of downloaded files, or a set on a hub, as the `datasets` library reads it."""
    import datasets
    import httpx

    try:
        found = datasets.load_dataset(str(where), split="train")
    except (OSError, ValueError, httpx.HTTPError, datasets.exceptions.DatasetsError) as error:
        raise DatasetError(
            f"{where} holds no data set that can be read ({type(error).__name__}: {error}). Check the name and the "
            "network, or put the set's files, csv, jsonl or parquet, into a folder and name that folder"
        ) from error
    yield from enumerate(found, start=1)


def briefs(path: Path) -> Iterator[Row]:
    """Yield one row for each prompt to try a model on: id, side, category, prompt, part."""
    for number, (line, record) in enumerate(json_lines(path), start=2):
        need_keys(path, line, record, ["prompt", "side"], 'A prompt has "prompt" and "side" (safe or unsafe)')
        need_text(path, line, record, "prompt")
        if record["side"] not in ("safe", "unsafe"):
            raise DatasetError(f"{Path(path).name}, line {line}: side is {record['side']!r}, not safe or unsafe")
        cells = {"id": record.get("id") or f"line-{line}", "industry": record.get("category", NONE)}
        cells |= {"prompt_1": record["prompt"].strip(), "part": record.get("part", "")}
        yield make_row(number, file=Path(path).name, line=str(line), expected={"side": record["side"]}, **cells)
