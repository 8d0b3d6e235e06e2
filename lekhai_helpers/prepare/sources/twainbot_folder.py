"""A folder of books, headlines and tool conversations, read as one set of rows. Called as ``rows(folder)``.

Every .txt is a book, every .csv a list of headlines, every .jsonl a file of conversations; a file of prompts to try a
model on (``vibe_checks.jsonl``) is never learnt. ``read(folder)`` also says what was left out. Taught in notebook 03.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from lekhai_helpers.prepare.near_copies import near_copies
from lekhai_helpers.prepare.sources import gutenberg_text, headlines_csv, tool_conversations
from lekhai_helpers.prepare.sources.base import DatasetError, Row
from lekhai_helpers.prepare.sources.reading import LeftOut, Reading, numbered

FOLDERS = True
VIBE_CHECKS = "vibe_checks.jsonl"
# Public lists hold ten thousand headlines: left alone they would drown voice and tool. At most so many for every other
# row; which, the lot decides.
HEADLINES_PER_ROW = 1.0


def rows(path: Path) -> Iterator[Row]:
    """Yield the rows of every file in the folder. Raises DatasetError with the file at fault, or without any."""
    yield from read(path).rows


def briefs(path: Path) -> Iterator[Row]:
    """Yield the prompts of a file to try the model on."""
    yield from tool_conversations.rows(path)


def read(path: Path) -> Reading:
    """Return the rows of every file in the folder, and what was left out: copies, what is too short, and the headlines
    that are more than the rest can bear.
    """
    files = _files(Path(path))
    readings = [_read_file(file) for file in files]
    together = [row for reading in readings for row in reading.rows]
    left_out = [one for reading in readings for one in reading.left_out]
    together, surplus = _balanced(together)
    together, copies = _without_copies(together)
    return Reading(numbered(together), [*left_out, *surplus, *copies])


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DatasetError(
            f"{folder.name} is no folder: put books (.txt), headlines (.csv) and conversations (.jsonl) there"
        )
    found = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in (".txt", ".csv", ".jsonl")]
    found = [file for file in found if file.name != VIBE_CHECKS]
    if not found:
        raise DatasetError(f"{folder.name} holds neither a book (.txt) nor headlines (.csv) nor conversations (.jsonl)")
    return found


def _read_file(file: Path) -> Reading:
    suffix = file.suffix.lower()
    if suffix == ".jsonl":
        return Reading(list(tool_conversations.rows(file)))
    return gutenberg_text.read(file) if suffix == ".txt" else headlines_csv.read(file)


def _without_copies(together: list[Row]) -> tuple[list[Row], list[LeftOut]]:
    """Leave out texts that nearly repeat another, of whatever file; of a conversation all rows stay or go together."""
    texts: dict[str, str] = {}
    for row in together:
        texts[_text_id(row)] = _spoken(row)  # the last row of a conversation holds all of it
    names = list(texts)
    copies = {names[place]: names[first] for place, (first, _) in near_copies(list(texts.values())).items()}
    kept = [row for row in together if _text_id(row) not in copies]
    out = [row for row in together if _text_id(row) in copies]
    return kept, [_left_out(row, f"nearly the same as {copies[_text_id(row)]}") for row in out]


def _text_id(row: Row) -> str:
    return row.cells["thread"] if row.cells["messages"] else row.cells["id"]


def _spoken(row: Row) -> str:
    """Return what people say in a row: calls and replies are alike by their form and say nothing about the words."""
    if not row.cells["messages"]:
        return row.cells["script"]  # requests share their wording and would make strangers alike
    said = [message["content"] for message in json.loads(row.cells["messages"])]
    return "\n".join(text for text in said if not text.startswith(("<tool_call>", "<tool_response>")))


def _balanced(together: list[Row]) -> tuple[list[Row], list[LeftOut]]:
    headlines = [row for row in together if row.cells["industry"] == headlines_csv.GROUP]
    others = len(together) - len(headlines)
    most = round(others * HEADLINES_PER_ROW) if others else len(headlines)
    by_lot = sorted(headlines, key=lambda row: hashlib.sha256(row.cells["id"].encode()).hexdigest())
    surplus = {row.cells["id"] for row in by_lot[most:]}
    kept = [row for row in together if row.cells["id"] not in surplus]
    reason = f"more headlines than the {others} other rows can bear"
    return kept, [_left_out(row, reason) for row in headlines if row.cells["id"] in surplus]


def _left_out(row: Row, reason: str) -> LeftOut:
    return LeftOut(row.cells["file"], int(row.cells["line"]), reason, row.cells["script"])
